"""Numbers as text, the way Go and Prometheus write them."""

from __future__ import annotations

import json
import math

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


def open_metrics_number(value: float) -> str:
    """As `number`, but always with a point, as OpenMetrics writes the values of `le` and `quantile`."""
    text = number(value)
    return text if not math.isfinite(value) or "." in text else f"{text}.0"


def labels(label_set: Labels) -> str:
    """A label set as PromQL writes it: `{a="1", b="2"}`."""
    pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(label_set.items()))
    return f"{{{', '.join(pairs)}}}"
