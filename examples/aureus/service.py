"""What the three services share: metrics, health, log shipping, admin authorisation, request bodies."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

import aiohttp
import msgspec
import prometheus_client
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from examples.aureus.logship import LogShipper

BODY_BYTES_MAX = 64 * 1024
LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

Body = TypeVar("Body")


class Server(Protocol):
    """One of the three services: adds its routes, says whether it is healthy."""

    kit: Kit

    def routes(self) -> list[web.RouteDef]:
        """The routes beside /health and /metrics."""
        ...

    def unhealthy(self) -> str:
        """Why the service cannot serve now; empty when it can."""
        ...

    async def run(self) -> None:
        """Background work, cancelled at the end."""
        ...

    async def stop(self) -> None:
        """Let go of connections before the server closes."""
        ...


class Kit:
    """A service's name, metrics registry, log and admin token."""

    def __init__(self, service: str, session: aiohttp.ClientSession, push_url: str, admin_token: str) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types
        prefix = service.replace("-", "_")
        self.service = service
        self.session = session
        self.admin_token = admin_token
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(f"{prefix}_requests", "Requests received.", registry=self.registry)
        self.errors = Counter(f"{prefix}_errors", "Requests that failed here.", registry=self.registry)
        self.duration = Histogram(
            f"{prefix}_request_duration_seconds",
            "Time to answer a request.",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._dropped = Counter(
            f"{prefix}_log_lines_dropped", "Log lines not delivered.", ["reason"], registry=self.registry
        )
        self.shipper = LogShipper(session, push_url, service, self._count_dropped)
        self.log = self.shipper.log
        self._abandoned: set[asyncio.Future[object]] = set()

    def abandon(self, future: asyncio.Future[object]) -> None:
        """Cancel without waiting for the end; whatever comes of it is of no interest any more."""

        def forget(ended: asyncio.Future[object]) -> None:
            self._abandoned.discard(ended)
            if not ended.cancelled():
                ended.exception()

        self._abandoned.add(future)  # the event loop alone holds tasks too loosely
        future.add_done_callback(forget)
        future.cancel()

    def _count_dropped(self, reason: str, lines: int) -> None:
        self._dropped.labels(reason).inc(lines)


async def read_body(request: web.Request, kind: type[Body]) -> Body:
    """The JSON body as `kind`; a body that is not is answered with 400 and the reason."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=f"body: {error}") from error


def build_app(server: Server) -> web.Application:
    """The aiohttp application of a service, background work and log shipping included."""
    kit = server.kit

    async def health(_: web.Request) -> web.Response:
        reason = server.unhealthy()
        body = {"status": "unhealthy" if reason else "ok", "service": kit.service, "reason": reason}
        return web.json_response(body, status=503 if reason else 200)

    async def metrics(_: web.Request) -> web.Response:
        text = prometheus_client.generate_latest(kit.registry)
        return web.Response(body=text, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    async def background(_: web.Application) -> AsyncIterator[None]:
        shipping = asyncio.create_task(kit.shipper.run())
        working = asyncio.create_task(server.run())
        yield
        working.cancel()
        await asyncio.wait([working])
        await kit.shipper.close(shipping)

    async def on_shutdown(_: web.Application) -> None:
        await server.stop()

    app = web.Application(middlewares=[_measure(kit), _authorise(kit.admin_token)], client_max_size=BODY_BYTES_MAX)
    app.add_routes([web.get("/health", health), web.get("/metrics", metrics), *server.routes()])
    app.cleanup_ctx.append(background)
    app.on_shutdown.append(on_shutdown)
    return app


def _measure(kit: Kit) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in ("/health", "/metrics"):
            return await handler(request)
        kit.requests.inc()
        started = time.perf_counter()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            if error.status >= 500:
                kit.errors.inc()
            raise
        except Exception as error:
            kit.errors.inc()
            kit.log("error", "request_failed", path=request.path, error=repr(error))
            raise
        if not isinstance(response, web.WebSocketResponse):  # a chat lasts minutes; that is no latency
            kit.duration.observe(time.perf_counter() - started)
            if response.status >= 500:
                kit.errors.inc()
        return response

    return measure


def _authorise(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/api/admin/"):
            given = request.headers.get("Authorization", "")
            if not given.startswith("Bearer "):
                raise web.HTTPUnauthorized(
                    text="admin calls need 'Authorization: Bearer TOKEN'", headers={"WWW-Authenticate": "Bearer"}
                )
            if not hmac.compare_digest(given.encode(errors="replace"), expected):
                raise web.HTTPForbidden(text="wrong admin token")
        return await handler(request)

    return authorise
