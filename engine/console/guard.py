"""Who may talk to the console: headers for every answer, Host and Origin checks, and CSRF tokens for forms.

A page on another site must not be able to press a button here (CSRF), nor reach us under its own name by pointing
that name at our address (DNS rebinding). The first is held by a token bound to a cookie and by the Origin header, the
second by answering only to names we know. An address written as numbers cannot be rebound, so it is let in.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "sentinel_session"
FIELD = "csrf"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """The checks of one console. `known_hosts` are the names it may be called by, besides localhost and addresses."""

    def __init__(self, known_hosts: Iterable[str] = ()) -> None:
        self._known = {"localhost", *(host.lower() for host in known_hosts if host)}
        self._key = secrets.token_bytes(32)

    def refusal(self, request: web.Request) -> str:
        """Why a request is not answered, "" if it is."""
        host = request.headers.get("Host", "")
        if not self._is_known(host):
            return f"this console does not answer to the name {host!r}; set http.external_url if it should"
        if request.method not in ("GET", "HEAD") and not _same_origin(request, host):
            return "the request comes from another site"
        return ""

    def session(self, request: web.Request) -> str:
        """The browser's session id: that of its cookie, else a new one."""
        return request.cookies.get(COOKIE) or secrets.token_urlsafe(24)

    def token(self, session: str) -> str:
        """The form token that goes with a session."""
        return hmac.new(self._key, session.encode(), hashlib.sha256).hexdigest()

    def holds(self, request: web.Request, token: str) -> bool:
        """Whether a form's token belongs to the session that sends it."""
        session = request.cookies.get(COOKIE, "")
        return bool(session) and hmac.compare_digest(self.token(session).encode(), token.encode())

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._known or _is_address(name)


def set_session(response: web.Response, session: str, *, secure: bool) -> None:
    """Give the browser its session id."""
    response.set_cookie(COOKIE, session, httponly=True, samesite="Strict", secure=secure, path="/")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(request: web.Request, host: str) -> bool:
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()
