"""Numbers in text as Go's `strconv` writes and reads them: formats `e E f g G b x X`, and literals in any base."""

from __future__ import annotations

import math
import re
from decimal import Decimal

SHORTEST = -1
_INT64_MIN, _INT64_MAX, _UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_INTEGER = re.compile(r"([+-]?)(?:0[xX](_?[0-9a-fA-F]+)+|0[bB](_?[01]+)+|0[oO]?(_?[0-7]+)+|0|[1-9](_?[0-9]+)*)")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:_[0-9]+)*)?(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"[+-]?0[xX](_?[0-9a-fA-F]+)*(?:\.[0-9a-fA-F]*)?[pP][+-]?[0-9]+")
_NAMED = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}


def parse_int(text: str) -> int:
    """An integer literal: decimal, `0x`, `0o`, `0b` or a leading 0 for octal, with underscores. Raises `ValueError`."""
    if not _INTEGER.fullmatch(text):
        raise ValueError("invalid syntax")
    digits = text.lstrip("+-").replace("_", "").lower()
    prefixed = len(digits) > 1 and digits[0] == "0"
    base = {"x": 16, "b": 2}.get(digits[1], 8) if prefixed else 10
    value = int(digits[2:] if prefixed and digits[1].isalpha() else digits, base)
    return -value if text[0] == "-" else value


def parse_float(text: str) -> float:
    """A floating-point number as Go's `ParseFloat` reads it; out of range and malformed raise `ValueError`."""
    bare = text.lstrip("+-").lower()
    if bare in _NAMED and len(text) - len(bare) <= 1:
        return -_NAMED[bare] if text[0] == "-" else _NAMED[bare]
    plain = text.replace("_", "")
    if _HEXADECIMAL.fullmatch(text) and any(sign in "0123456789abcdef" for sign in plain.lower().split("x")[1][:2]):
        value = float.fromhex(plain)
    elif _DECIMAL.fullmatch(text) and any(sign.isdigit() for sign in re.split("[eE]", plain)[0]):
        value = float(plain)
    else:
        raise ValueError("invalid syntax")
    if math.isinf(value):
        raise ValueError("value out of range")
    return value


def fits_int64(value: int) -> bool:
    """Whether Go's int64 can hold it."""
    return _INT64_MIN <= value <= _INT64_MAX


def fits_uint64(value: int) -> bool:
    """Whether Go's uint64 can hold it."""
    return 0 <= value <= _UINT64_MAX


def wrap_int64(value: int) -> int:
    """The value as 64-bit arithmetic would leave it."""
    return (value - _INT64_MIN) % (1 << 64) + _INT64_MIN


def format_float(value: float, verb: str, precision: int = SHORTEST) -> str:
    """Go's `FormatFloat`. With `SHORTEST` the fewest digits that read back as the same float."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "eEfgG":
        return _shortest(value, verb) if precision == SHORTEST else _rounded(value, verb, precision)
    if verb == "b":
        return _binary(value)
    text = _hexadecimal(value, precision)
    return text.upper() if verb == "X" else text


def _rounded(value: float, verb: str, precision: int) -> str:
    return f"{value:.{precision}{verb}}"


def _shortest(value: float, verb: str) -> str:
    sign, digits, _ = Decimal(repr(value)).as_tuple()
    mantissa = "".join(map(str, digits)).strip("0") or "0"
    exponent = Decimal(repr(value)).adjusted() if value else 0
    if verb == "f" or (verb in "gG" and -4 <= exponent < 6) or (verb in "gG" and not value):
        plain = f"{Decimal(repr(value)):f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    point = "." if len(mantissa) > 1 else ""
    mark = "E" if verb in "EG" else "e"
    return f"{'-' if sign else ''}{mantissa[0]}{point}{mantissa[1:]}{mark}{exponent:+03d}"


def _binary(value: float) -> str:
    if value == 0:
        return f"{'-' if math.copysign(1, value) < 0 else ''}0p-1074"
    exponent = max(math.frexp(abs(value))[1] - 53, -1074)
    return f"{'-' if value < 0 else ''}{int(math.ldexp(abs(value), -exponent))}p{exponent:+d}"


def _hexadecimal(value: float, precision: int) -> str:
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        digits = "." + "0" * precision if precision > 0 else ""
        return f"{sign}0x0{digits}p+00"
    fraction, exponent = math.frexp(abs(value))
    mantissa, exponent = int(fraction * (1 << 53)), exponent - 1  # 53 bits, the first of them before the point
    if 0 <= precision < 13:
        shift = 4 * (13 - precision)
        mantissa = _half_even(mantissa, shift)
        if mantissa.bit_length() > 4 * precision + 1:
            mantissa, exponent = mantissa >> 1, exponent + 1
        tail = f"{mantissa & ((1 << 4 * precision) - 1):0{precision}x}" if precision else ""
    else:
        tail = f"{mantissa & ((1 << 52) - 1):013x}"
        tail = tail.rstrip("0") if precision == SHORTEST else tail.ljust(precision, "0")
    return f"{sign}0x1{'.' if tail else ''}{tail}p{exponent:+03d}"


def _half_even(value: int, shift: int) -> int:
    quotient, rest = value >> shift, value & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1))
