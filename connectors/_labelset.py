"""Label sets written as text, as Loki's push format has them: `{job="bridge", level="error"}`.

Strict: anything but names, `=` and quoted values is refused with the column. Values are Go string literals, quoted
(with escapes) or in backticks (without).
"""

from __future__ import annotations

import re

from connectors import DecodeError

_PAIR = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\\n]|\\.)*"|`[^`]*`)\s*')
_ESCAPE = re.compile(
    rb"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL
)
_SIMPLE = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def parse_label_set(text: str) -> dict[str, str]:
    """The labels of `{name="value", ...}`; raises `DecodeError` that names the column."""
    end = len(text.rstrip())
    start = len(text) - len(text.lstrip())
    if end - start < 2 or text[start] != "{" or text[end - 1] != "}":
        raise _error(text, start, "a label set stands in braces")
    labels: dict[str, str] = {}
    position = start + 1
    while position < end - 1:
        pair = _PAIR.match(text, position, end - 1)
        if pair is None:
            if not labels and not text[position : end - 1].strip():
                break
            raise _error(text, position, 'expected name="value"')
        name = pair[1]
        if name in labels:
            raise _error(text, pair.start(1), f"label {name!r} stands twice")
        labels[name] = _unquote(text, pair)
        position = pair.end()
        if position < end - 1:
            if text[position] != ",":
                raise _error(text, position, "expected a comma")
            position += 1
    return labels


def _unquote(text: str, pair: re.Match[str]) -> str:
    literal = pair[2]
    if literal[0] == "`":
        return literal[1:-1]
    if "\\" not in literal:
        return literal[1:-1]
    try:
        return _ESCAPE.sub(_unescape, literal[1:-1].encode()).decode()
    except ValueError as error:
        raise _error(text, pair.start(2), f"bad string: {error}") from error


def _unescape(escape: re.Match[bytes]) -> bytes:
    simple, hexadecimal, octal, short, long, unknown = escape.groups()
    if simple is not None:
        return _SIMPLE.get(simple, simple)
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if octal is not None:
        return bytes([int(octal, 8)])
    if unknown is not None:
        raise ValueError(f"unknown escape \\{unknown.decode(errors='replace')}")
    return chr(int(short or long, 16)).encode()


def _error(text: str, position: int, what: str) -> DecodeError:
    return DecodeError("invalid_labels", f"{what} at column {position + 1} of {text[:200]!r}")
