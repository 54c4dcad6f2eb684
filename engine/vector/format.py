"""Numbers as text, the way Go and Prometheus write them."""

from __future__ import annotations

import json
import math
from decimal import Decimal

from engine.core.labels import Labels


def number(value: float) -> str:
    """The shortest decimal that reads back as the same float, never with an exponent (Go's format 'f')."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits, point = whole + fraction, len(whole) + int(exponent)
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}".rstrip("0")
    if point >= len(digits):
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"


def json_number(value: float) -> str:
    """A sample as Prometheus's HTTP API writes it: as `number`, with an exponent from 1e21 on and below 1e-6."""
    if value == 0 or 1e-6 <= abs(value) < 1e21 or not math.isfinite(value):
        return number(value)
    return repr(value)


def fixed(value: float) -> str:
    """With six decimals (Go's format `%f`)."""
    return f"{value:f}" if math.isfinite(value) else number(value)


def json_seconds(t_ms: int) -> str:
    """A time as Prometheus's HTTP API writes it: seconds, with three decimals where it is not a whole second."""
    whole, part = divmod(abs(t_ms), 1000)
    return f"{'-' if t_ms < 0 else ''}{whole}" + (f".{part:03d}" if part else "")


def exponent_number(value: float) -> str:
    """The shortest decimal that reads back as the same float, always with an exponent (Go's format 'e')."""
    if not math.isfinite(value):
        return number(value)
    digits = len(Decimal(repr(value)).normalize().as_tuple().digits)
    return f"{value:.{digits - 1}e}"


def general(value: float) -> str:
    """As `number`, with an exponent from 1e6 on and below 1e-4 (Go's format `%g`)."""
    plain = value == 0 or not math.isfinite(value) or -4 <= Decimal(repr(value)).adjusted() < 6
    return number(value) if plain else exponent_number(value)


def open_metrics_number(value: float) -> str:
    """As `number`, but always with a point, as OpenMetrics writes the values of `le` and `quantile`."""
    text = number(value)
    return text if not math.isfinite(value) or "." in text else f"{text}.0"


def quoted(text: str) -> str:
    """A text in double quotes, with escapes where it needs them."""
    return json.dumps(text, ensure_ascii=False)


def labels(label_set: Labels) -> str:
    """A label set as PromQL writes it: `{a="1", b="2"}`."""
    pairs = (f"{name}={quoted(value)}" for name, value in sorted(label_set.items()))
    return f"{{{', '.join(pairs)}}}"
