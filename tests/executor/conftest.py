"""A real target that counts its calls, a clock that moves when told, and executors on one real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiohttp import web

from engine.actions import Action, Environment, HttpHost, load_actions
from engine.core.messages import Command, SignedCommand, Target, encode
from engine.edge.database import Database, url_of
from engine.edge.executor import Executor, ExecutorSettings, Mode
from engine.response import signing

START_MS = 1_800_000_000_000
KEY = signing.generate()
TOKEN = "secret-token"
LEASE_MS = 30_000


class ManualClock:
    """Time stands still until `advance`; whoever sleeps is woken when its time has come."""

    def __init__(self) -> None:
        self.ms = START_MS
        self._sleepers: list[tuple[int, asyncio.Event]] = []
        self._changed = asyncio.Event()

    def now_ms(self) -> int:
        return self.ms

    async def sleep(self, duration_s: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.ms + round(duration_s * 1000), woken))
        self._changed.set()
        await woken.wait()

    def advance(self, duration_ms: int) -> None:
        self.ms += duration_ms
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.ms]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.ms]
        for _, woken in due:
            woken.set()

    def monotonic_s(self) -> float:
        return self.ms / 1000

    async def until_sleepers(self, count: int = 1) -> None:
        while len(self._sleepers) < count:
            self._changed.clear()
            await self._changed.wait()


class OpenClaw:
    """A blocklist behind a bearer token. `gate` holds requests back after they were counted."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.blocked: list[str] = []
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/admin/blocklist", self._block)
        app.router.add_get("/api/admin/blocklist", self._list)
        app.router.add_route("*", "/moved", self._moved)
        app.router.add_route("*", "/huge", self._huge)
        app.router.add_route("*", "/echo", self._echo)
        app.router.add_post("/proxy", self._proxy)
        return app

    async def _block(self, request: web.Request) -> web.Response:
        self.calls.append(request.method)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "who are you?"}, status=401)
        body = await request.json()
        self.blocked.append(body["user_id"])
        self.arrived.set()
        await self.gate.wait()
        return web.json_response(body, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"blocked": self.blocked})

    async def _moved(self, request: web.Request) -> web.Response:
        self.calls.append("moved")
        return web.Response(status=307, headers={"Location": "/api/admin/blocklist"})

    async def _huge(self, request: web.Request) -> web.Response:
        return web.Response(text="x" * 3_000_000)

    async def _proxy(self, request: web.Request) -> web.Response:
        """Hands on, and then does not wait for the answer."""
        self.blocked.append((await request.json())["user_id"])
        return web.Response(status=504, text="gateway timeout " + "x" * 500)

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(text=f"you sent {request.headers.get('Authorization')}")


@pytest_asyncio.fixture
async def openclaw() -> AsyncIterator[OpenClaw]:
    service = OpenClaw()
    runner = web.AppRunner(service.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    service.gate.set()
    await runner.cleanup()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def environment(openclaw: OpenClaw, postgres_url: str) -> AsyncIterator[Environment]:
    async with httpx.AsyncClient() as client:
        yield Environment(
            hosts={"openclaw": HttpHost(openclaw.url, TOKEN), "closed": HttpHost("http://127.0.0.1:9")},
            databases={"main": postgres_url},
            http=client,
            connect=asyncpg.connect,
            sleep=_no_wait,
        )


async def _no_wait(duration_s: float) -> None:
    await asyncio.sleep(0)


MakeExecutor = Callable[..., Executor]


@pytest.fixture
def make_executor(database: Database, environment: Environment, clock: ManualClock) -> MakeExecutor:
    def make(
        name: str = "one",
        mode: Mode = "auto",
        allow: tuple[str, ...] = ("http.request", "postgres.terminate_idle"),
        db: Database = database,
        actions: Mapping[str, Action] | None = None,
    ) -> Executor:
        settings = ExecutorSettings(name, frozenset(allow), lambda command, destructive: mode, lease_ms=LEASE_MS)
        keys = signing.public_keys(KEY.public_key())
        return Executor(db, settings, keys, actions or load_actions(), environment, clock, clock.monotonic_s)

    return make


async def end_leases(database: Database) -> None:
    """Let every lease be over by the database's clock, as when its time has passed."""
    async with database.connection() as conn:
        await conn.execute("update claims set lease_ms = 0 where outcome is null")


def block(user: str = "mallory", **changes: object) -> Command:
    """The seed's command: add a user to OpenClaw's blocklist."""
    check = {"path": "/api/admin/blocklist", "expect": f'"{user}" in body.blocked'}
    fields: dict[str, object] = {
        "id": f"block-{user}",
        "incident": 7,
        "rule": "aureus/PolicyViolationSpike",
        "runbook": "policy-violation-spike",
        "step": "block",
        "action": "http.request",
        "target": Target("http", "openclaw"),
        "params": {
            "method": "POST",
            "path": "/api/admin/blocklist",
            "json": {"user_id": user, "reason": "policy_violation_spike"},
            "expect_status": [201],
            "check": check,
        },
        "severity": "warning",
        "issued_ms": START_MS - 1000,
        "expires_ms": START_MS + 600_000,
    }
    return Command(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def signed(command: Command) -> SignedCommand:
    return signing.sign(command, KEY)


def message(command: Command) -> bytes:
    return encode(signed(command))


@pytest_asyncio.fixture
async def bare_url(postgres_url: str) -> AsyncIterator[str]:
    """An empty database."""
    server = await asyncpg.connect(postgres_url)
    await server.execute("create database bare")
    yield url_of(postgres_url, "bare")
    await server.execute("drop database bare with (force)")
    await server.close()


@pytest_asyncio.fixture
async def bare(bare_url: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(bare_url)
    yield conn
    await conn.close()
