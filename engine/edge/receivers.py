"""HTTP routes for the sources that push: one for every connector with a path.

A request is read with a size limit, decoded as a whole, and answered only after the broker has all of it: what was
answered with success is never lost, and of a body that cannot be used nothing is taken. Only 503 is in between: the
broker may have taken a part, or take it later; the client sends all of it again, so delivery is at least once.

    200/204  taken                   400/413/415  cannot be used; the body says why. Sending it again will not help.
    429      too many sources        503          try again later (Retry-After)

What a source's protocol says beyond that (remote write: how many samples were written) its connector's `answer` knows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web

from connectors import Connector, DecodeError, discover
from engine.core.sources import SourceTiming
from engine.edge.publisher import Publisher, TooManySourcesError, UnavailableError

_RETRY_AFTER_S = "5"
_MAX_SENDER_LENGTH = 200
_CHUNK_BYTES = 64 * 1024


class Receivers:
    """The receivers of this process.

    `timings` replaces connectors' default timing by connector name; `max_body_bytes` limits a body as it arrives (what
    it may become when decompressed, the decoders limit). Add `routes()` to an application.
    """

    def __init__(
        self,
        publisher: Publisher,
        timings: Mapping[str, SourceTiming] | None = None,
        max_body_bytes: int = 16 * 1024 * 1024,
        connectors: Iterable[Connector] | None = None,
    ) -> None:
        self._publisher = publisher
        self._timings = timings or {}
        self._max_body_bytes = max_body_bytes
        self.connectors = [c for c in (discover() if connectors is None else connectors) if c.path]

    def routes(self) -> list[web.RouteDef]:
        """One POST route for every connector."""
        return [web.post(connector.path, self._handler(connector)) for connector in self.connectors]

    def _handler(self, connector: Connector) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            response = await self._receive(connector, request)
            self._publisher.metrics.requests.labels(connector.name, str(response.status)).inc()
            return response

        return handle

    async def _receive(self, connector: Connector, request: web.Request) -> web.Response:
        try:
            name = source_name(connector.name, request)
            body = await _read(request, self._max_body_bytes)
            decoded = connector.decode(body, request.headers, self._publisher.now_ms())
            timing = self._timings.get(connector.name, connector.timing)
            source = self._publisher.source(name, connector.name, connector.kind, timing)
            taken = await self._publisher.publish(source, decoded.events)
        except DecodeError as error:
            return web.Response(status=error.status, text=f"{error.reason}: {error.detail}\n")
        except TooManySourcesError as error:
            return _later(429, f"too_many_sources: {error}")
        except UnavailableError as error:
            return _later(503, f"unavailable: {error}")
        self._publisher.metrics.drop(decoded.dropped)
        answer = connector.answer(taken)
        return web.Response(status=answer.status, text=answer.text or None, headers=answer.headers)


def source_name(connector: str, request: web.Request) -> str:
    """Who sends: connector, tenant (X-Scope-OrgID) and sender (`?source=`, else remote address and User-Agent).

    Raises `DecodeError` for a name that is too long or not printable.
    """
    tenant = request.headers.get("X-Scope-OrgID", "")
    sender = request.query.get("source") or f"{request.remote or ''} {request.headers.get('User-Agent', '')}".strip()
    for part, value in (("X-Scope-OrgID", tenant), ("source", sender)):
        if len(value) > _MAX_SENDER_LENGTH or not value.isprintable():
            limit = f"at most {_MAX_SENDER_LENGTH} printable characters"
            raise DecodeError("invalid_source", f"{part} must be {limit}; ?source=NAME names a sender")
    return f"{connector}/{tenant}/{sender}"


async def _read(request: web.Request, limit_bytes: int) -> bytes:
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
    except web.RequestPayloadError as error:
        raise DecodeError("bad_body", f"the body cannot be read: {error}") from error
    return bytes(body)


def _too_large(limit_bytes: int) -> DecodeError:
    return DecodeError("body_too_large", f"the body is over {limit_bytes} bytes: send smaller batches", 413)


def _later(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={"Retry-After": _RETRY_AFTER_S})
