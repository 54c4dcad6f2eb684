"""`http.request`: one request to an allow-listed host, sent at most once.

The target's name chooses the host from the executor's settings; neither the path nor the answer can lead anywhere
else: no scheme, no `..`, no redirects. The bearer token never reaches an outcome or a log.

An answer of 500 or more that is not expected does not say that nothing happened: a proxy may have given up on a
service that went on. The declared check decides then.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import cel
import httpx
import msgspec
from msgspec import Meta, Struct

from engine.actions import Action, Check, Environment, HttpHost, Plan, Result, ServiceAccess
from engine.core.messages import Target

_PATH = re.compile(r"/(?!/)[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")
_RESPONSE_MAX_BYTES = 1024 * 1024
_KEPT_CHARACTERS = 200
_CHECK_TIMEOUT_S = 5.0
_CHECK_PAUSE_S = 0.25
_Status = Annotated[int, Meta(ge=100, le=599)]


def _check_path(path: str) -> None:
    if _PATH.fullmatch(path) is None:
        raise ValueError(
            f"path {path!r} must start with one '/' and hold only characters of a URL path and query "
            "(percent-encode the others)"
        )
    plain = path
    while (decoded := unquote(plain)) != plain:
        plain = decoded
    if {".", ".."} & set(re.split(r"[/\\?]", plain)) or any(ord(character) < 32 for character in plain):
        raise ValueError(f"path {path!r} must not hold '.', '..' or control characters, encoded or not")


class StateCheck(Struct, frozen=True, forbid_unknown_fields=True):
    """How to see the wished state: a GET, and a CEL condition over `status` and `body` (JSON, else text).

    It is asked again until it holds, for up to `within_s`.
    """

    path: str
    expect: Annotated[str, Meta(min_length=1)]
    method: Literal["GET"] = "GET"
    within_s: Annotated[float, Meta(ge=0, le=120)] = 5.0

    def __post_init__(self) -> None:
        _check_path(self.path)
        try:
            cel.compile(self.expect)
        except ValueError as error:
            raise ValueError(f"expect is not a CEL condition: {error}") from error


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """The request. `path` goes below the host's base URL; `json` is the body, absent if None."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    json: Any = None
    expect_status: Annotated[tuple[_Status, ...], Meta(min_length=1)] = (200, 201, 202, 204)
    check: StateCheck | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0

    def __post_init__(self) -> None:
        _check_path(self.path)


class _Answer(Struct, frozen=True):
    status: int
    body: bytes
    truncated: bool

    def data(self) -> Any:
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return self.body.decode(errors="replace")


def _url(host: HttpHost, path: str) -> httpx.URL:
    """The address below the host's base; refuses, whatever the path check let through, to leave that host."""
    base = httpx.URL(host.base_url)
    url = httpx.URL(host.base_url.rstrip("/") + path)
    if (url.scheme, url.netloc, url.userinfo) != (base.scheme, base.netloc, base.userinfo):
        raise ValueError(f"path {path!r} leads to another host")
    return url


async def _send(env: Environment, host: HttpHost, method: str, path: str, json: Any, timeout_s: float) -> _Answer:
    # A kept-alive connection may just have been closed by the server, and then nobody knows whether it took a POST.
    headers = {"Accept-Encoding": "identity", "Connection": "close"}
    if host.token:
        headers["Authorization"] = f"Bearer {host.token}"
    content = None
    if json is not None:
        headers["Content-Type"] = "application/json"
        content = msgspec.json.encode(json)
    request = env.http.build_request(method, _url(host, path), headers=headers, content=content, timeout=timeout_s)
    body = bytearray()
    async with asyncio.timeout(timeout_s):
        response = await env.http.send(request, stream=True, follow_redirects=False, auth=None)
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _RESPONSE_MAX_BYTES:
                    break
        finally:
            await response.aclose()
    truncated = len(body) > _RESPONSE_MAX_BYTES
    return _Answer(response.status_code, bytes(body[:_RESPONSE_MAX_BYTES]), truncated)


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The request as it would be sent, without the token."""
    url = str(_url(env.hosts[target.name], params.path))
    change: dict[str, Any] = {"method": params.method, "url": url, "json": params.json}
    return Plan(f"{params.method} {url}", [change])


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Send the request once."""
    host = env.hosts[target.name]
    try:
        answer = await _send(env, host, params.method, params.path, params.json, params.timeout_s)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return Result("failed", "unreachable", {"error": env.redact(str(error)), "sent": False})
    except (httpx.HTTPError, TimeoutError) as error:
        return Result("unknown", "no_answer", {"error": env.redact(str(error)) or type(error).__name__, "sent": True})
    detail: dict[str, Any] = {"status": answer.status}
    if answer.status in params.expect_status:
        return Result("done", "answered", detail)
    # The answer of a service may hold anything: so much of it as helps to see what went wrong.
    text = env.redact(answer.body.decode(errors="replace"))
    detail |= {"body": text[:_KEPT_CHARACTERS], "expect_status": list(params.expect_status)}
    return Result("unknown" if answer.status >= 500 else "failed", "unexpected_status", detail)


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Ask the check until it holds or its time is over."""
    if params.check is None:
        return Check("unknown", "no check is declared", declared=False)
    host, rounds = env.hosts[target.name], 1 + round(params.check.within_s / _CHECK_PAUSE_S)
    for attempt in range(rounds):
        if attempt:
            await env.sleep(_CHECK_PAUSE_S)
        found = await _check_once(env, host, params.check)
        if found.state == "yes":
            return found
    return found


async def _check_once(env: Environment, host: HttpHost, check: StateCheck) -> Check:
    try:
        answer = await _send(env, host, check.method, check.path, None, _CHECK_TIMEOUT_S)
    except (httpx.HTTPError, TimeoutError) as error:
        return Check("unknown", f"no answer to the check: {env.redact(str(error)) or type(error).__name__}")
    if answer.truncated:
        return Check("unknown", "the answer to the check is too long")
    try:
        held = cel.compile(check.expect).execute({"status": answer.status, "body": answer.data()})
    except Exception as error:  # the CEL library raises whatever the expression's data leads to
        return Check("unknown", f"the check could not be evaluated: {type(error).__name__} {env.redact(str(error))}")
    if not isinstance(held, bool):
        return Check("unknown", f"the check gave {type(held).__name__}, not true or false")
    return Check("yes" if held else "no", f"status {answer.status}, {check.expect}: {held}".lower())


ACTION = Action(
    name="http.request",
    summary="Send one HTTP request to an allow-listed host.",
    target_kind="http",
    params=Params,
    destructive=True,
    permissions=(ServiceAccess("a token that the called service accepts for this path, in executor.hosts"),),
    plan=plan,
    run=run,
    verify=verify,
)
