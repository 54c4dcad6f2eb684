"""Secrets are never shown: one way to mask them, for `sentinel config`, logs and errors alike."""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "********"
PERCENT_ENCODE = "percent-encode the password (/ is %2F, # is %23, ? is %3F, @ is %40)"

# scheme://user:password@host. A password that was not percent-encoded may hold any sign, so all from the first colon to
# the last @ of the word goes: rather too much than a piece of it.
_URL_PASSWORD = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:]*:)(?P<password>\S+)(?=@)", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?P<before>\b(?:password|passwd|secret|token|api_key|apikey|sslpassword)\s*=\s*)"
    r"(?P<password>'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^&\s]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<before>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{4,}")
_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|authorization|private_key|api_?key|credential|cookie", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"(_env|_file|_id)$", re.IGNORECASE)


def mask_text(text: str) -> str:
    """The text with passwords in URLs and connection strings, and bearer tokens, replaced by `MASK`."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<before>{MASK}", text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\g<before>{MASK}", text)
    return _BEARER.sub(rf"\g<before>{MASK}", text)


def passwords(url: str) -> set[str]:
    """The passwords in a URL, as they are written and decoded."""
    found = {match["password"] for pattern in (_URL_PASSWORD, _PARAMETER) for match in pattern.finditer(url)}
    return found | {unquote(password) for password in found}


def is_secret_name(name: str) -> bool:
    """Whether a value under this name is a secret whatever it looks like."""
    return _SECRET_NAME.search(name) is not None and _NOT_SECRET.search(name) is None
