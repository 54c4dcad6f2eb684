"""Loki's functions on text. Their names and the order of their arguments are Loki's (its template functions page)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import msgspec

from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.values import (
    AnyList,
    AnyMap,
    Stringer,
    Struct,
    TemplateError,
    Value,
    from_bytes,
    to_bytes,
)
from engine.core.gotemplate.wordcase import lower, upper

MOST_NESTED = 50  # maps and lists of a JSON document in each other; each costs a piece of Python's stack
MOST_CHARACTERS = 1_000_000  # that one call may add; the numbers may come out of a log line
_SPACE = " \t\n\v\f\r\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/\r\n]")


def repeat(times: int, text: str) -> str:
    """The text so many times over."""
    if times < 0:
        raise TemplateError("strings: negative Repeat count")
    return text * _within(times * len(text), times)


def _within(characters: int, value: int) -> int:
    if characters > MOST_CHARACTERS:
        raise TemplateError(f"{characters} characters are too many (the most is {MOST_CHARACTERS})")
    return value


def indent(spaces: int, text: str) -> str:
    """Every line moved to the right."""
    if spaces < 0:
        raise TemplateError("strings: negative Repeat count")
    lines = text.count("\n") + 1
    margin = " " * _within(spaces * lines, spaces)
    return margin + text.replace("\n", "\n" + margin)


def truncate(length: int, text: str) -> str:
    """The first bytes of a text, or the last if the length is negative."""
    if abs(length) >= len(text) and text.isascii():
        return text
    raw = to_bytes(text)
    if length < 0:
        return from_bytes(raw[length:]) if len(raw) + length > 0 else text
    return from_bytes(raw[:length])


def substring(start: int, end: int, text: str) -> str:
    """The bytes from `start` to `end`; a negative start is the first, an end that is negative or too large the last."""
    raw = to_bytes(text)
    if start < 0:
        start = 0
    elif end < 0 or end > len(raw):
        end = len(raw)
    if not start <= end <= len(raw):
        raise TemplateError(f"slice bounds out of range [{start}:{end}] with length {len(raw)}")
    return from_bytes(raw[start:end])


def align_left(width: int, text: str) -> str:
    """The text cut or filled up to a width, beginning at the left; as it is for a negative width."""
    return text if width < 0 else text[:width].ljust(_within(width, width))


def align_right(width: int, text: str) -> str:
    """The end of the text cut or filled up to a width, ending at the right; as it is for a negative width."""
    return text if width < 0 else text[max(len(text) - width, 0) :].rjust(_within(width, width))


def replace(text: str, old: str, new: str, times: int) -> str:
    """Go's `strings.Replace`: the first occurrences, or all if the number is negative."""
    return text.replace(old, new, times)


def default(value: Value, *given: Value) -> Value:
    """What is given, or the value if that is empty: zero, false, "", nil or without entries."""
    if not given:
        return value
    is_empty = isinstance(given[0], Struct | Stringer) or not given[0]
    return value if is_empty else given[0]


def base64_encode(text: str) -> str:
    """The text in base64."""
    return base64.b64encode(to_bytes(text)).decode()


def base64_decode(text: str) -> str:
    """The reverse of `base64_encode`; of malformed text the complaint, as Sprig does."""
    bare = text.replace("\r", "").replace("\n", "")
    bad = _NOT_BASE64.search(text.rstrip("="))
    if bad is None:
        try:
            return from_bytes(base64.b64decode(bare, validate=True))
        except binascii.Error:
            return f"illegal base64 data at input byte {len(text) // 4 * 4}"
    return f"illegal base64 data at input byte {len(to_bytes(text[: bad.start()]))}"


def from_json(text: str) -> Value:
    """A JSON document as maps, lists, text, float64 and bool; nil if it is malformed or nested too deeply."""
    try:
        return _typed(msgspec.json.decode(text.encode("utf-8", "replace")), 0)
    except (msgspec.DecodeError, RecursionError, OverflowError):
        return None


def _typed(value: Any, depth: int) -> Value:
    if depth >= MOST_NESTED and isinstance(value, dict | list):
        raise RecursionError
    if isinstance(value, dict):
        return AnyMap((key, _typed(item, depth + 1)) for key, item in value.items())
    if isinstance(value, list):
        return AnyList(_typed(item, depth + 1) for item in value)
    return float(value) if type(value) is int else value


FUNCTIONS: Functions = {
    # the old names, with Go's order of arguments
    "ToLower": function(lower, "string"),
    "ToUpper": function(upper, "string"),
    "Replace": function(replace, "string string string int"),
    "Trim": function(str.strip, "string string"),
    "TrimLeft": function(str.lstrip, "string string"),
    "TrimRight": function(str.rstrip, "string string"),
    "TrimPrefix": function(str.removeprefix, "string string"),
    "TrimSuffix": function(str.removesuffix, "string string"),
    "TrimSpace": function(lambda text: text.strip(_SPACE), "string"),
    # the text comes last, for pipelines
    "lower": function(lower, "string"),
    "upper": function(upper, "string"),
    "replace": function(lambda old, new, text: text.replace(old, new), "string string string"),
    "trim": function(lambda text: text.strip(_SPACE), "string"),
    "trimAll": function(lambda signs, text: text.strip(signs), "string string"),
    "trimPrefix": function(lambda prefix, text: text.removeprefix(prefix), "string string"),
    "trimSuffix": function(lambda suffix, text: text.removesuffix(suffix), "string string"),
    "trunc": function(truncate, "int string"),
    "substr": function(substring, "int int string"),
    "indent": function(indent, "int string"),
    "nindent": function(lambda spaces, text: "\n" + indent(spaces, text), "int string"),
    "repeat": function(repeat, "int string"),
    "alignLeft": function(align_left, "int string"),
    "alignRight": function(align_right, "int string"),
    "contains": function(lambda part, text: part in text, "string string"),
    "hasPrefix": function(lambda prefix, text: text.startswith(prefix), "string string"),
    "hasSuffix": function(lambda suffix, text: text.endswith(suffix), "string string"),
    "default": function(default, "any ...any"),
    "b64enc": function(base64_encode, "string"),
    "b64dec": function(base64_decode, "string"),
    "fromJson": function(from_json, "string"),
}
