"""Loki's functions on numbers, which take text as well: what is no number counts as 0, as in Sprig.

Integers are Go's int64 and wrap. The floating-point sums work on decimal numbers, so that 0.1 plus 0.2 is 0.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal

from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.numerals import fits_int64, parse_float, parse_int, wrap_int64
from engine.core.gotemplate.times import parse_duration
from engine.core.gotemplate.values import Int64, TemplateError, Value

_FRACTION = re.compile(r"^([+-]?[0-9]*)\.[0-9]*$")
_EXACT = Context(prec=800)
_QUOTIENT = Decimal("1e-16")  # digits behind the point that a quotient keeps
_BYTES = re.compile(r"([0-9.,]+)\s*([A-Za-z]*)")
_BYTE_UNITS = {
    "": 1,
    "b": 1,
    **{f"{letter}{tail}": 1000**power for power, letter in enumerate("kmgtpe", 1) for tail in ("", "b")},
    **{f"{letter}i{tail}": 1024**power for power, letter in enumerate("kmgtpe", 1) for tail in ("", "b")},
}


def to_int64(value: Value) -> Int64:
    """A number cut to an integer, or the integer that a text spells; 0 for anything else."""
    if isinstance(value, str):
        match = _FRACTION.match(value)
        try:
            number = parse_int(match[1] if match else value)
        except ValueError:
            return Int64(0)
        return Int64(number if fits_int64(number) else 0)
    if isinstance(value, float):
        return Int64(int(value)) if math.isfinite(value) and abs(value) < 2.0**63 else Int64(-(1 << 63))
    return Int64(value) if isinstance(value, int) else Int64(0)


def to_float64(value: Value) -> float:
    """A number, or the number that a text spells; 0 for anything else."""
    if isinstance(value, str):
        try:
            return parse_float(value)
        except ValueError:
            return 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _divide(left: int, right: int) -> int:
    """Towards zero, as Go divides."""
    if right == 0:
        raise TemplateError("runtime error: integer divide by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _folded(join: Callable[[int, int], int], start: int | None = None) -> Callable[..., Int64]:
    def total(*values: Value) -> Int64:
        numbers = [to_int64(value) for value in values]
        result = numbers.pop(0) if start is None else start
        for number in numbers:
            result = wrap_int64(join(result, number))
        return Int64(result)

    return total


def _decimal(value: Value) -> Decimal:
    number = to_float64(value)
    if not math.isfinite(number):
        raise TemplateError(f"Cannot create a Decimal from {number}")
    return Decimal(repr(number))


def _folded_decimal(join: Callable[[Decimal, Decimal], Decimal], start: Decimal | None = None) -> Callable[..., float]:
    def total(*values: Value) -> float:
        numbers = [_decimal(value) for value in values]
        result = numbers.pop(0) if start is None else start
        for number in numbers:
            result = join(result, number)
        return float(result) + 0.0  # Go's decimals have no negative zero

    return total


def _quotient(left: Decimal, right: Decimal) -> Decimal:
    if right == 0:
        raise TemplateError("decimal division by 0")
    return _EXACT.divide(left, right).quantize(_QUOTIENT, ROUND_HALF_UP, _EXACT)


def round_to(value: Value, places: int, *round_on: float) -> float:
    """So many digits behind the point; a rest of at least `round_on` (a half) rounds up."""
    number = to_float64(value)
    if not math.isfinite(number):
        return number
    try:
        power = math.pow(10, places)
        scaled = power * number
        rest = math.modf(scaled)[0]
        whole = math.ceil(scaled) if rest >= (round_on[0] if round_on else 0.5) else math.floor(scaled)
        return math.copysign(whole, number) / power
    except (OverflowError, ValueError, ZeroDivisionError):
        return math.nan


def _whole(step: Callable[[float], int]) -> Callable[[Value], float]:
    def whole(value: Value) -> float:
        number = to_float64(value)
        return math.copysign(step(number), number) if math.isfinite(number) else number

    return whole


def _signed(number: float) -> tuple[float, float]:
    """Orders -0 before 0, as Go's `math.Max` does."""
    return number, math.copysign(1, number)


def _extreme(choose: Callable[..., float]) -> Callable[..., float]:
    def chosen(*values: Value) -> float:
        numbers = [to_float64(value) for value in values]
        return math.nan if any(map(math.isnan, numbers)) else choose(numbers, key=_signed)

    return chosen


def to_bytes(text: str) -> float:
    """A size such as `5 kB` (1000) or `5KiB` (1024) in bytes."""
    match = _BYTES.fullmatch(text)
    unit = _BYTE_UNITS.get(match[2].lower()) if match else None
    try:
        number = Decimal(match[1].replace(",", "")) if match else None
    except ArithmeticError:
        number = None
    if number is None or unit is None:
        raise TemplateError(f"cannot convert {text!r} to bytes")
    return float((number * unit).to_integral_value(ROUND_DOWN))


def duration_s(text: str) -> float:
    """Seconds of a Go duration such as `1h2m0.5s`."""
    return parse_duration(text) / 1_000_000_000


FUNCTIONS: Functions = {
    "int": function(lambda value: int(to_int64(value)), "any"),
    "float64": function(to_float64, "any"),
    "add": function(_folded(lambda left, right: left + right, 0), "...any"),
    "sub": function(_folded(lambda left, right: left - right), "any any"),
    "mul": function(_folded(lambda left, right: left * right), "any ...any"),
    "div": function(_folded(_divide), "any any"),
    "mod": function(_folded(lambda left, right: left - right * _divide(left, right)), "any any"),
    "max": function(_folded(max), "any ...any"),
    "min": function(_folded(min), "any ...any"),
    "addf": function(_folded_decimal(_EXACT.add, Decimal(0)), "...any"),
    "subf": function(_folded_decimal(_EXACT.subtract), "any ...any"),
    "mulf": function(_folded_decimal(_EXACT.multiply), "any ...any"),
    "divf": function(_folded_decimal(_quotient), "any ...any"),
    "maxf": function(_extreme(max), "any ...any"),
    "minf": function(_extreme(min), "any ...any"),
    "ceil": function(_whole(math.ceil), "any"),
    "floor": function(_whole(math.floor), "any"),
    "round": function(round_to, "any int ...float64"),
    "bytes": function(to_bytes, "string"),
    "duration": function(duration_s, "string"),
    "duration_seconds": function(duration_s, "string"),
}
