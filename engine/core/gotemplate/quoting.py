"""Go's string literals, both ways: `unquote` as the parser reads them, `quote` as `%q` writes them."""

from __future__ import annotations

import re

from engine.core.gotemplate.values import from_bytes

_SHORT = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_LONG = {sign: f"\\{letter}" for letter, sign in _SHORT.items()}
_ESCAPE = re.compile(
    r"\\(?:(?P<short>[abfnrtv\\'\"])|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})"
    r"|u(?P<four>[0-9a-fA-F]{4})|U(?P<eight>[0-9a-fA-F]{8})|(?P<bad>.|$))",
    re.DOTALL,
)
_NOT_UTF8 = range(0xDC80, 0xDD00)


def unquote(literal: str) -> str:
    """The text of a literal in double quotes, backquotes or single quotes. Raises `ValueError` if it is malformed."""
    mark, body = literal[0], literal[1:-1]
    if mark == "`":
        return body.replace("\r", "")
    out, done = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        out += body[done : match.start()].encode("utf-8", "surrogateescape") + _escaped(match, mark)
        done = match.end()
    return from_bytes(bytes(out + body[done:].encode("utf-8", "surrogateescape")))


def _escaped(match: re.Match[str], mark: str) -> bytes:
    if match["short"]:
        sign = match["short"]
        if sign in "'\"":
            if sign != mark:
                raise ValueError("invalid syntax")
            return sign.encode()
        return _SHORT[sign].encode()
    if match["byte"] or match["octal"]:
        value = int(match["byte"], 16) if match["byte"] else int(match["octal"], 8)
        if value > 255:
            raise ValueError("invalid syntax")
        return bytes([value])
    code = match["four"] or match["eight"]
    if code is None:
        raise ValueError("invalid syntax")
    value = int(code, 16)
    if value > 0x10FFFF or 0xD800 <= value < 0xE000:
        raise ValueError("invalid syntax")
    return chr(value).encode()


def quote(text: str, *, ascii_only: bool = False, mark: str = '"') -> str:
    """The text as a Go literal: printable characters as they are, the others as the shortest escape."""
    return mark + "".join([_written(sign, mark, ascii_only) for sign in text]) + mark


def _written(sign: str, mark: str, ascii_only: bool) -> str:
    code = ord(sign)
    if sign == mark or sign == "\\":
        return "\\" + sign
    if sign.isprintable() and (code < 0x80 or not ascii_only):
        return sign
    if sign in _LONG:
        return _LONG[sign]
    if code in _NOT_UTF8:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def can_backquote(text: str) -> bool:
    """Whether the text can stand between backquotes as it is."""
    return all(
        sign not in "`\x7f\ufeff" and (sign >= " " or sign == "\t") and not "\ud800" <= sign <= "\udfff"
        for sign in text
    )
