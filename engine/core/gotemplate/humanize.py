"""Prometheus's `humanize` functions: numbers as people read them."""

from __future__ import annotations

import math

from engine.core.gotemplate.numerals import parse_float
from engine.core.gotemplate.printf import sprintf
from engine.core.gotemplate.times import SECOND_NS, Duration, Time, from_seconds
from engine.core.gotemplate.values import Named, TemplateError, Uint8, Value, type_name

_LARGE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY = ("", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SMALL = ("", "m", "u", "n", "p", "f", "a", "z", "y")


def to_float(value: Value) -> float:
    """A number, the number that a string spells, or the seconds of a duration. Raises `TemplateError`."""
    if isinstance(value, Duration):
        return value / SECOND_NS
    if isinstance(value, str) and type_name(value) == "string":
        try:
            return parse_float(value)
        except ValueError as error:
            raise TemplateError(f'strconv.ParseFloat: parsing "{value}": {error}') from None
    if isinstance(value, int | float) and not isinstance(value, bool | Uint8 | Named):
        return float(value)
    raise TemplateError(f"can't convert {type_name(value)} to float")


def _four_digits(value: float) -> str:
    return sprintf("%.4g", [value])


def _scaled(value: float, step: float, prefixes: tuple[str, ...]) -> str:
    used = 0
    while abs(value) >= step and used + 1 < len(prefixes):
        value, used = value / step, used + 1
    return _four_digits(value) + prefixes[used]


def _enlarged(value: float) -> str:
    used = 0
    while abs(value) < 1 and used + 1 < len(_SMALL):
        value, used = value * 1000, used + 1
    return _four_digits(value) + _SMALL[used]


def humanize(value: Value) -> str:
    """A number with a metric prefix: 1234567 is 1.235M."""
    number = to_float(value)
    if number == 0 or not math.isfinite(number):
        return _four_digits(number)
    return _scaled(number, 1000, _LARGE) if abs(number) >= 1 else _enlarged(number)


def humanize_1024(value: Value) -> str:
    """A number with a binary prefix: 2048 is 2ki."""
    number = to_float(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return _four_digits(number)
    return _scaled(number, 1024, _BINARY)


def humanize_duration(value: Value) -> str:
    """Seconds as days, hours, minutes and seconds."""
    number = to_float(value)
    if not math.isfinite(number):
        return _four_digits(number)
    if number == 0:
        return _four_digits(number) + "s"
    if abs(number) < 1:
        return _enlarged(number) + "s"
    sign, number = ("-", -number) if number < 0 else ("", number)
    minutes, seconds = divmod(int(number), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{_four_digits(number)}s"


def humanize_percentage(value: Value) -> str:
    """A ratio as a percentage: 0.12 is 12%."""
    return _four_digits(to_float(value) * 100) + "%"


def humanize_timestamp(value: Value) -> str:
    """Seconds since 1970 as a date and time in UTC, to the millisecond (Prometheus's resolution)."""
    number = to_float(value)
    return to_time(number).string() if math.isfinite(number) else _four_digits(number)


def to_time(value: Value) -> Time:
    """Seconds since 1970 as a time in UTC, cut to the millisecond."""
    number = to_float(value)
    if not math.isfinite(number):
        raise TemplateError("value is NaN or Inf")
    ns = from_seconds(number).unix_ns
    ms = abs(ns) // 1_000_000
    return Time((-ms if ns < 0 else ms) * 1_000_000)
