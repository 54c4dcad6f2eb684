"""Number and character constants: untyped in Go, so each says which types it can take."""

from __future__ import annotations

import re

from engine.core.gotemplate import tree as t
from engine.core.gotemplate.numerals import fits_int64, fits_uint64, parse_float, parse_int
from engine.core.gotemplate.quoting import unquote
from engine.core.gotemplate.scanner import Token

_COMPLEX = re.compile(r"(.+?(?<![eEpP]))([+-][^+-]+(?:[eEpP][+-]?[0-9_]+)?)i")


def number(token: Token) -> t.Number:
    """The constant of a number, complex or char token. Raises `ValueError`, its text for the user."""
    if token.kind == "char":
        return _character(token.text)
    if token.text.endswith("i"):
        return _complex(token)
    try:
        return _integer(token.text)
    except ValueError as error:
        if "overflow" in str(error):
            raise
    try:
        value = parse_float(token.text)
    except ValueError:
        raise ValueError(f"illegal number syntax: {token.text!r}") from None
    if not re.search("[.eEpP]", token.text):
        raise ValueError(f"integer overflow: {token.text!r}")
    whole = int(value) if value.is_integer() and fits_int64(int(value)) else None
    return t.Number(token.text, value, whole, value)


def _integer(text: str) -> t.Number:
    value = parse_int(text)
    if not fits_int64(value) and not (fits_uint64(value) and text[0] != "+"):
        raise ValueError(f"integer overflow: {text!r}")
    if not fits_int64(value):
        return t.Number(text, None, None, float(value))
    is_float = re.search("[.eEpP]", text) and not text.lstrip("+-").lower().startswith("0x")
    return t.Number(text, float(value) if is_float else value, value, float(value))


def _character(text: str) -> t.Number:
    try:
        sign = unquote(text)
    except ValueError:
        raise ValueError("invalid syntax in character constant") from None
    if len(sign) != 1:
        raise ValueError(f"malformed character constant: {text}")
    code = ord(sign) - 0xDC00 if 0xDC80 <= ord(sign) < 0xDD00 else ord(sign)
    return t.Number(text, code, code, float(code))


def _complex(token: Token) -> t.Number:
    match = _COMPLEX.fullmatch(token.text) if token.kind == "complex" else None
    try:
        real, imaginary = (
            (parse_float(match[1]), parse_float(match[2])) if match else (0.0, parse_float(token.text[:-1]))
        )
    except ValueError:
        raise ValueError(f"illegal number syntax: {token.text!r}") from None
    value = complex(real, imaginary)
    floating = real if imaginary == 0 else None
    whole = int(real) if floating is not None and real.is_integer() and fits_int64(int(real)) else None
    return t.Number(token.text, value, whole, floating)
