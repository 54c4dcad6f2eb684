"""The functions of alert templates: Go's own (`printf`, `eq`, ...) and those Prometheus adds (`humanize`, ...).

Values are str, float, int, bool, None and dicts of labels; int and float stay apart, as in Go. A function raises
`TemplateError` where Go's template engine would stop. Sources: Go `fmt` and `text/template`, Prometheus
`template/template.go`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import re2

Value = Any
_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d*))?([a-zA-Z%])")
_GO_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))", re.ASCII)
_LARGE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_BINARY = ("", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_SMALL = ("", "m", "u", "n", "p", "f", "a", "z", "y")


class TemplateError(Exception):
    """A template could not be expanded with these values."""


def type_name(value: Value) -> str:
    """The Go type of a value."""
    kinds = {str: "string", bool: "bool", int: "int", float: "float64", type(None): "nil"}
    return kinds.get(type(value), "map[string]string")


def is_true(value: Value) -> bool:
    """Whether `if` takes a value for true: not zero and not empty."""
    return bool(value)


def text(value: Value) -> str:
    """A value as Go prints it (`%v`)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _shortest(value)
    if value is None:
        return "<no value>"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{n}:{v}' for n, v in sorted(value.items()))}]"
    return str(value)


def _shortest(value: float) -> str:
    """Go's `%g`: the fewest digits that read back as the same float, with an exponent from 1e+06 and below 1e-04."""
    if not math.isfinite(value):
        return _special(value)
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if value == 0 or -4 <= exponent < 6:
        return f"{exact:f}"
    sign, digits, _ = exact.as_tuple()
    mantissa = "".join(map(str, digits))
    point = "." if len(mantissa) > 1 else ""
    return f"{'-' * sign}{mantissa[0]}{point}{mantissa[1:]}e{exponent:+03d}"


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def sprintf(template: Value, *arguments: Value) -> str:
    """Go's `fmt.Sprintf`."""
    if not isinstance(template, str):
        raise TemplateError(f"printf: wrong type for format; expected string; got {type_name(template)}")
    left = list(arguments)

    def verb(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter == "%":
            return "%"
        if not left:
            return f"%!{letter}(MISSING)"
        return _verb(letter, flags, width, precision, left.pop(0))

    result = _VERB.sub(verb, template)
    if left:
        extra = ", ".join(f"{type_name(value)}={text(value)}" for value in left)
        result += f"%!(EXTRA {extra})"
    return result


def _verb(letter: str, flags: str, width: str, precision: str | None, value: Value) -> str:
    digits = None if precision is None else int(precision or 0)
    body = _body(letter, flags.replace("-", ""), digits, value)
    if body is None:
        return f"%!{letter}({type_name(value)}={text(value)})"
    size = int(width or 0)
    if "-" in flags:
        return body.ljust(size)
    if "0" in flags and type_name(value) in ("int", "float64"):
        return body.zfill(size)
    return body.rjust(size)


def _body(letter: str, flags: str, digits: int | None, value: Value) -> str | None:
    """The value without padding; None if the verb is not for its type."""
    kind = type_name(value)
    if letter == "v":
        return _float("g", "", digits, value) if kind == "float64" else text(value)
    if kind == "float64" and letter in "feEgG":
        return _float(letter, flags, digits, value)
    if kind == "int" and letter in "dxX":
        return str(f"%{flags}{letter}" % value)
    if kind == "bool" and letter == "t":
        return text(value)
    if kind == "string" and letter in "sqxX":
        return _string_body(letter, digits, value)
    return text(value) if kind == "map[string]string" and letter == "s" else None


def _float(letter: str, flags: str, digits: int | None, value: float) -> str:
    if not math.isfinite(value) or (digits is None and letter in "gG"):
        sign = "+" if "+" in flags and value >= 0 and math.isfinite(value) else ""
        return sign + _shortest(value)
    return f"%{flags}.{6 if digits is None else digits}{letter}" % value


def _string_body(letter: str, digits: int | None, value: str) -> str:
    if letter == "q":
        return json.dumps(value, ensure_ascii=False)
    if letter in "xX":
        return value.encode().hex() if letter == "x" else value.encode().hex().upper()
    return value if digits is None else value[:digits]


def to_float(value: Value) -> float:
    """A number, or the number a string spells."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise TemplateError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise TemplateError(f"can't convert {type_name(value)} to float")


def _four_digits(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else _special(value)


def _scaled(value: float, step: float, prefixes: tuple[str, ...]) -> tuple[float, str]:
    used = 0
    while abs(value) >= step and used + 1 < len(prefixes):
        value, used = value / step, used + 1
    return value, prefixes[used]


def _enlarged(value: float) -> tuple[float, str]:
    used = 0
    while abs(value) < 1 and used + 1 < len(_SMALL):
        value, used = value * 1000, used + 1
    return value, _SMALL[used]


def humanize(value: Value) -> str:
    """A number with a metric prefix: 1234567 is 1.235M."""
    number = to_float(value)
    if number == 0 or not math.isfinite(number):
        return _four_digits(number)
    number, prefix = _scaled(number, 1000, _LARGE) if abs(number) >= 1 else _enlarged(number)
    return _four_digits(number) + prefix


def humanize_1024(value: Value) -> str:
    """A number with a binary prefix: 2048 is 2ki."""
    number = to_float(value)
    if abs(number) <= 1 or not math.isfinite(number):
        return _four_digits(number)
    number, prefix = _scaled(number, 1024, _BINARY)
    return _four_digits(number) + prefix


def humanize_duration(value: Value) -> str:
    """Seconds as days, hours, minutes and seconds."""
    number = to_float(value)
    if not math.isfinite(number):
        return _four_digits(number)
    if number == 0:
        return "0s"
    if abs(number) < 1:
        number, prefix = _enlarged(number)
        return f"{_four_digits(number)}{prefix}s"
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
    return f"{_four_digits(to_float(value) * 100)}%"


def humanize_timestamp(value: Value) -> str:
    """Seconds since 1970 as a date and time in UTC."""
    number = to_float(value)
    if not math.isfinite(number):
        return _four_digits(number)
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    except OverflowError:
        raise TemplateError(f"{_shortest(number)} cannot be represented as a timestamp") from None
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def title(value: Value) -> str:
    """Every word with a capital first letter."""
    return re.sub(r"(?<![\w'])[^\W\d_]", lambda match: match[0].upper(), _string(value))


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"expected string; got {type_name(value)}")
    return value


def _pattern(expression: Value) -> re2._Regexp:
    try:
        return re2.compile(_string(expression))
    except re2.error as error:
        raise TemplateError(f"bad regular expression {expression!r}: {error}") from error


def match(expression: Value, value: Value) -> bool:
    """Whether a regular expression is found in a text."""
    return _pattern(expression).search(_string(value)) is not None


def replace_all(expression: Value, replacement: Value, value: Value) -> str:
    """Every match of a regular expression replaced; `$1` and `${name}` are its groups."""

    def expand(found: re2._Match) -> str:
        def group(reference: re.Match[str]) -> str:
            name = reference[1] or reference[2]
            if name is None:
                return "$"
            try:
                return found.group(int(name) if name.isdigit() else name) or ""
            except (IndexError, KeyError):
                return ""

        return _GO_REFERENCE.sub(group, _string(replacement))

    return str(_pattern(expression).sub(expand, _string(value)))


def index(container: Value, *keys: Value) -> Value:
    """The value of a key in a map; the zero value if there is none."""
    for key in keys:
        if not isinstance(container, Mapping):
            raise TemplateError(f"can't index item of type {type_name(container)}")
        container = container.get(_string(key), "")
    return container


def _same_kind(left: Value, right: Value) -> None:
    if type(left) is not type(right) or isinstance(left, Mapping):
        raise TemplateError("incompatible types for comparison")


def equal(left: Value, *others: Value) -> bool:
    """Whether the first value equals any of the others."""
    for other in others:
        _same_kind(left, other)
    return left in others


def _ordered(compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], bool]:
    def function(left: Value, right: Value) -> bool:
        _same_kind(left, right)
        if isinstance(left, bool):
            raise TemplateError("invalid type for comparison")
        return compare(left, right)

    return function


def _all(*values: Value) -> Value:
    return next((value for value in values if not is_true(value)), values[-1])


def _any(*values: Value) -> Value:
    return next((value for value in values if is_true(value)), values[-1])


def _length(value: Value) -> int:
    if not isinstance(value, str | Mapping):
        raise TemplateError(f"len of type {type_name(value)}")
    return len(value.encode() if isinstance(value, str) else value)


def _print(*values: Value) -> str:
    result = ""
    for i, value in enumerate(values):
        both_plain = i and not isinstance(value, str) and not isinstance(values[i - 1], str)
        result += (" " if both_plain else "") + text(value)
    return result


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "and": _all,
    "or": _any,
    "not": lambda value: not is_true(value),
    "eq": equal,
    "ne": lambda left, right: not equal(left, right),
    "lt": _ordered(lambda left, right: left < right),
    "le": _ordered(lambda left, right: left <= right),
    "gt": _ordered(lambda left, right: left > right),
    "ge": _ordered(lambda left, right: left >= right),
    "index": index,
    "len": _length,
    "print": _print,
    "println": lambda *values: " ".join(map(text, values)) + "\n",
    "printf": sprintf,
    "humanize": humanize,
    "humanize1024": humanize_1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "title": title,
    "toUpper": lambda value: _string(value).upper(),
    "toLower": lambda value: _string(value).lower(),
    "match": match,
    "reReplaceAll": replace_all,
}
