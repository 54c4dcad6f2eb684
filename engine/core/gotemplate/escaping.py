"""Go's escaping functions: `html`, `js`, `urlquery`; and percent-encoding both ways."""

from __future__ import annotations

import re
from urllib.parse import quote_plus, unquote_to_bytes

from engine.core.gotemplate.printing import printable, sprint
from engine.core.gotemplate.values import TemplateError, Value, from_bytes, to_bytes

_HTML = {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
_JS = {
    "\\": r"\\",
    "'": r"\'",
    '"': r"\"",
    "<": r"\u003C",
    ">": r"\u003E",
    "&": r"\u0026",
    "=": r"\u003D",
}
_BAD_ESCAPE = re.compile("%(?![0-9a-fA-F]{2}).{0,2}", re.DOTALL)


def _joined(values: tuple[Value, ...]) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return str(values[0])
    return sprint(tuple(map(printable, values)))


def html(*values: Value) -> str:
    """The values printed, with HTML's special characters escaped."""
    return "".join([_HTML.get(sign, sign) for sign in _joined(values)])


def js(*values: Value) -> str:
    """The values printed, escaped for a JavaScript string."""
    return "".join([_js(sign) for sign in _joined(values)])


def _js(sign: str) -> str:
    if sign in _JS:
        return _JS[sign]
    if sign < " ":
        return f"\\u00{ord(sign):02X}"
    is_raw_byte = "\ud800" <= sign <= "\udfff"
    return sign if sign < "\x80" or is_raw_byte or sign.isprintable() else f"\\u{ord(sign):04X}"


def urlquery(*values: Value) -> str:
    """The values printed, escaped for the query part of a URL."""
    return query_escape(_joined(values))


def query_escape(text: str) -> str:
    """Percent-encoding with `+` for a blank (Go's `url.QueryEscape`)."""
    return quote_plus(to_bytes(text))


def query_unescape(text: str) -> str:
    """The reverse of `query_escape`. Raises `TemplateError` on `%` without two hex digits."""
    bad = _BAD_ESCAPE.search(text)
    if bad:
        raise TemplateError(f'invalid URL escape "{bad[0]}"')
    return from_bytes(unquote_to_bytes(to_bytes(text.replace("+", " "))))
