"""How Go's `fmt` prints one value for one verb: the numbers, strings, maps, lists and structs of templates.

Addresses are never printed: a pointer prints as what it points to, so that a replay writes the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.core.gotemplate.numerals import SHORTEST, format_float
from engine.core.gotemplate.quoting import can_backquote, quote
from engine.core.gotemplate.values import Named, Stringer, Struct, Uint8, Value, to_bytes, type_name

_BASES = {"b": 2, "o": 8, "O": 8, "x": 16, "X": 16}
_DIGITS = {2: "b", 8: "o", 16: "x"}
_FLOAT_VERBS = {"v": ("g", SHORTEST), "F": ("f", 6), "f": ("f", 6), "e": ("e", 6), "E": ("E", 6)} | {
    verb: (verb, SHORTEST) for verb in "bgGxX"
}
_MAX_RUNE = 0x10FFFF


@dataclass(slots=True)
class Flags:
    """What stands between `%` and the verb; `plus_v` and `sharp_v` are `%+v` and `%#v`."""

    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    plus_v: bool = False
    sharp_v: bool = False
    width: int | None = None
    precision: int | None = None


def text(value: Value) -> str:
    """A value as a template writes it: `%v`, and `<no value>` for nil."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    return format_value(printable(value), "v", Flags())


def printable(value: Value) -> Value:
    """What is printed of a value that stands by itself: `<no value>` for nil, for a pointer what it points to."""
    if value is None:
        return "<no value>"
    return replace(value, is_pointer=False) if isinstance(value, Struct) and value.is_pointer else value


def sprint(values: tuple[Value, ...]) -> str:
    """Go's `fmt.Sprint`: a blank between two values of which neither is a string."""
    out, after_text = "", True
    for value in values:
        is_text = isinstance(value, str)
        out += ("" if is_text or after_text else " ") + format_value(value, "v", Flags())
        after_text = is_text
    return out


def format_value(value: Value, verb: str, flags: Flags) -> str:
    """The value printed with a verb, as `fmt.Sprintf` would."""
    if value is None:
        return pad("<nil>", flags) if verb in "Tv" else f"%!{verb}(<nil>)"
    if verb == "T":
        return _string(type_name(value), "s", flags) or ""
    return _any(value, verb, flags, 0)


def pad(body: str, flags: Flags, *, zero: bool = True) -> str:
    """The text filled up to the width; `zero` says whether the `0` flag counts."""
    missing = (flags.width or 0) - len(body)
    if missing <= 0:
        return body
    if flags.minus:
        return body + " " * missing
    return ("0" if flags.zero and zero else " ") * missing + body


def _any(value: Value, verb: str, flags: Flags, depth: int) -> str:
    if verb == "w":  # for errors in Go's `Errorf` alone
        return _bad_verb(value, verb, flags)
    if isinstance(value, Stringer) and flags.sharp_v:
        return pad(value.go_string()[: flags.precision], flags)
    if isinstance(value, Named | Stringer) and not flags.sharp_v and verb in "vsxXq":
        return _string(value.string(), verb, flags) or ""
    if isinstance(value, Mapping | list | Struct):
        return _container(value, verb, flags, depth)
    body = _scalar(value, verb, flags)
    return _bad_verb(value, verb, flags) if body is None else body


def _bad_verb(value: Value, verb: str, flags: Flags) -> str:
    plain = int(value) if isinstance(value, Named) else value
    body = _any(plain, "v", flags, 0) if verb != "v" else ""
    return f"%!{verb}({type_name(value)}={body})"


def _scalar(value: Value, verb: str, flags: Flags) -> str | None:
    """The value without anything inside it; None if the verb is not for its type."""
    if isinstance(value, bool):
        return pad("true" if value else "false", flags) if verb in "tv" else None
    if isinstance(value, int):
        return _integer(value, verb, flags)
    if isinstance(value, float):
        return _float(value, verb, flags)
    if isinstance(value, complex):
        return _complex(value, verb, flags)
    if isinstance(value, str):
        return _string(value, verb, flags)
    return value.string() if isinstance(value, Stringer) else None


def _container(value: Value, verb: str, flags: Flags, depth: int) -> str:
    if isinstance(value, Struct):
        named = flags.plus_v or flags.sharp_v
        items = [
            (f"{name}:" if named else "") + _element(item, verb, flags, depth) for name, item in value.fields.items()
        ]
        kind, opening, closing = (value.name if flags.sharp_v else ""), "{", "}"
        kind = "&" + kind if value.is_pointer else kind
    elif isinstance(value, Mapping):
        items = [
            f"{_element(key, verb, flags, depth)}:{_element(value[key], verb, flags, depth)}"
            for key in sorted(value, key=to_bytes)
        ]
        kind, opening, closing = (type_name(value), "{", "}") if flags.sharp_v else ("map", "[", "]")
    else:
        items = [_element(item, verb, flags, depth) for item in value]
        kind, opening, closing = (type_name(value), "{", "}") if flags.sharp_v else ("", "[", "]")
    return kind + opening + (", " if flags.sharp_v else " ").join(items) + closing


def _element(value: Value, verb: str, flags: Flags, depth: int) -> str:
    if value is None:
        return "interface {}(nil)" if flags.sharp_v else "<nil>"
    return _any(value, verb, flags, depth + 1)


def _string(value: str, verb: str, flags: Flags) -> str | None:
    if verb in "xX":
        return _hex_string(to_bytes(value), verb, flags)
    if verb not in "vsq":
        return None
    cut = value if flags.precision is None else value[: flags.precision]
    if verb != "q" and not flags.sharp_v:
        return pad(cut, flags)
    if flags.sharp and can_backquote(cut):
        return pad(f"`{cut}`", flags)
    return pad(quote(cut, ascii_only=flags.plus), flags)


def _hex_string(raw: bytes, verb: str, flags: Flags) -> str:
    raw = raw if flags.precision is None else raw[: flags.precision]
    prefix = f"0{verb}" if flags.sharp and raw else ""
    digits = [f"{byte:02{verb}}" for byte in raw]
    body = f" {prefix}".join(digits) if flags.space else "".join(digits)
    return pad(prefix + body, flags)


def _integer(value: int, verb: str, flags: Flags) -> str | None:
    if verb == "v" and flags.sharp_v and isinstance(value, Uint8):
        return _digits(value, "x", _with_sharp(flags))
    if verb in "vdboOxX":
        return _digits(value, verb, flags)
    rune = chr(value) if 0 <= value <= _MAX_RUNE and not 0xD800 <= value < 0xE000 else "\ufffd"
    if verb == "c":
        return pad(rune, flags)
    if verb == "q":
        return pad(quote(rune, ascii_only=flags.plus, mark="'"), flags)
    if verb == "U":
        digits = f"{value & 0xFFFFFFFFFFFFFFFF:X}".rjust(max(4, flags.precision or 0), "0")
        shown = f" '{rune}'" if flags.sharp and 0 <= value <= _MAX_RUNE and rune.isprintable() else ""
        return pad(f"U+{digits}{shown}", flags, zero=False)
    return None


def _with_sharp(flags: Flags) -> Flags:
    return Flags(flags.minus, flags.plus, True, flags.space, flags.zero, False, False, flags.width, flags.precision)


def _digits(value: int, verb: str, flags: Flags) -> str:
    base = _BASES.get(verb, 10)
    if flags.precision == 0 and value == 0:
        return " " * (flags.width or 0)
    body = f"{abs(value):{_DIGITS.get(base, 'd')}}"
    sign = "-" if value < 0 else "+" if flags.plus else " " if flags.space else ""
    least = flags.precision or 0
    if flags.precision is None and flags.zero and not flags.minus and flags.width is not None:
        least = flags.width - len(sign)
    body = body.rjust(least, "0")
    if flags.sharp and base == 8:
        body = body if body[0] == "0" else "0" + body
    elif flags.sharp and base != 10:
        body = f"0{_DIGITS[base]}{body}"
    body = "0o" + body if verb == "O" else body
    return pad(sign + (body.upper() if verb == "X" else body), flags, zero=False)


def _float(value: float, verb: str, flags: Flags) -> str | None:
    if verb not in _FLOAT_VERBS:
        return None
    letter, precision = _FLOAT_VERBS[verb]
    precision = precision if flags.precision is None else flags.precision
    number = format_float(value, letter, precision)
    sign = number[0] if number[0] in "+-" else "+"
    digits = number.lstrip("+-")
    shown = "" if sign == "+" and not flags.plus else sign
    if sign == "+" and flags.space and not flags.plus:
        shown = " "
    if digits in ("Inf", "NaN"):
        keeps = flags.plus or flags.space or digits == "Inf"
        return pad((shown or (sign if digits == "Inf" else "")) + digits if keeps else digits, flags, zero=False)
    if flags.sharp and letter != "b":
        digits = _with_point(digits, "v" if verb == "v" else letter, precision)
    if flags.zero and not flags.minus and shown:
        return shown + pad(digits, Flags(zero=True, width=(flags.width or 0) - len(shown)))
    return pad(shown + digits, flags)


def _with_point(digits: str, verb: str, precision: int) -> str:
    """The `#` flag: always a decimal point, and for `g` no trailing zero removed."""
    wanted = (6 if precision == SHORTEST else precision) if verb in "vgGx" else 0
    ends = [digits.index(sign) for sign in ("pP" if verb in "xX" else "eE") if sign in digits]
    body, tail = (digits[: ends[0]], digits[ends[0] :]) if ends else (digits, "")
    significant = "".join(sign for sign in body if sign != ".").lstrip("0")
    wanted -= len(significant)
    if "." not in body:
        wanted -= body == "0"
        body += "."
    return body + "0" * wanted + tail


def _complex(value: complex, verb: str, flags: Flags) -> str | None:
    real = _float(value.real, verb, flags)
    if real is None:
        return None
    signed = Flags(flags.minus, True, flags.sharp, flags.space, flags.zero, False, False, flags.width, flags.precision)
    return f"({real}{_float(value.imag, verb, signed)}i)"
