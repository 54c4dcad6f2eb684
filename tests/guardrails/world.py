"""A whole installation in miniature: the real responder and executors on one real database, and services to act on.

Commands go from the responder's outbox to the executor as the very bytes that the topic would carry, outcomes go back.
Settings are read as the program reads them, so policy and executor are put together as in a running process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncpg
import httpx
import msgspec
import pytest
from aiohttp import web

from engine.actions import Action, Environment, HttpHost, load_actions
from engine.core.messages import Command, Outcome, SignedCommand, Target, encode
from engine.edge import audit
from engine.edge.database import Database
from engine.edge.executor import Executor
from engine.edge.investigate import Investigator
from engine.edge.responder import Responder, ResponderConfig
from engine.edge.roles import executor_settings, policy
from engine.edge.settings import Settings
from engine.response import signing
from engine.response.runbook import load_runbooks
from tests.executor.conftest import START_MS, ManualClock
from tests.response.conftest import alert

SERVICES = ("openclaw", "bridge", *(f"service-{number}" for number in range(1, 51)))
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
STABLE_MS = MINUTE_MS + 30_000  # the rule's window and the runbook's stabilisation
KEY = signing.generate()
STRANGER = signing.generate()

RUNBOOKS = r"""
runbooks:
  - name: Restart
    match: ['alertname="ServiceDown"']
    priority: {critical: P0, default: P2}
    group_by: [service, pod]
    limits: {cooldown: 10m, budget_per_hour: 5, stabilisation: 30s, reopen: 10m}
    escalation: [{to: on-call}]
    summary: '{{ labels.service }} is down'
    steps:
      - name: restart
        act:
          action: http.request
          target: '{{ labels.service }}'
          params:
            method: POST
            path: /api/admin/restart
            expect_status: [202]
            check: {path: /health, expect: body.restarted > 0, within_s: 0.0}
      - {name: verified, verify: {}}

  - name: Database
    match: ['alertname="DatabaseFailure"']
    priority: P1
    group_by: [service]
    explains: [{match: ['alertname="ServiceDown"'], equal: [namespace]}]
    escalation: [{to: on-call}]
    summary: the database is down
    steps:
      - name: restart
        act:
          action: http.request
          target: '{{ labels.service }}'
          params:
            method: POST
            path: /api/admin/restart
            expect_status: [202]
            check: {path: /health, expect: body.restarted > 0, within_s: 0.0}
      - {name: verified, verify: {}}

  - name: Ask
    match: ['alertname="Tampered"']
    priority: P0
    group_by: [service]
    escalation: [{to: on-call}]
    summary: '{{ labels.service }} is tampered with'
    steps:
      - name: isolate
        ask:
          question: Restart it?
          action: http.request
          target: '{{ labels.service }}'
          params: {method: POST, path: /api/admin/restart, expect_status: [202]}
          expires: 15m
      - {name: isolated, verify: {}}

  - name: Block
    match: ['alertname="PolicyViolationSpike"']
    priority: P2
    group_by: [service]
    escalation: [{to: on-call}]
    summary: '{{ labels.user }} breaks policies'
    steps:
      - name: suspects
        investigate:
          postgres:
            database: shop
            query: select source_user from policy_violations where source_user = $1
            params: [labels.user]
      - name: block
        act:
          action: http.request
          subject: suspects.rows
          target: openclaw
          params: {method: POST, path: /api/admin/blocklist, json: {user_id: '{{ labels.user }}'}, expect_status: [201]}
      - {name: verified, verify: {}}

  - name: Path
    match: ['alertname="HighLatency"']
    priority: P2
    group_by: [service]
    escalation: [{to: on-call}]
    summary: '{{ labels.path }} is slow'
    steps:
      - name: flush
        act:
          action: http.request
          target: openclaw
          params: {method: POST, path: '/cache/{{ labels.path | segment }}'}
      - {name: verified, verify: {}}

  - name: Escape
    match: ['alertname="HighErrorRate"']
    priority: P2
    group_by: [service]
    escalation: [{to: on-call}]
    summary: errors
    steps:
      - name: escape
        act:
          action: http.request
          target: openclaw
          params: {method: POST, path: /api/admin/restart, json: '{{ labels.__class__.__mro__[1].__subclasses__() }}'}
      - {name: verified, verify: {}}

  - name: Rollout
    match: ['alertname="HighMemoryUsage"']
    priority: P2
    group_by: [service]
    escalation: [{to: on-call}]
    summary: memory
    steps:
      - name: rollout
        act: {action: kubernetes.rollout_restart, target: '{{ labels.target }}'}
      - {name: verified, verify: {}}
"""


class Services:
    """Services that can be restarted, each below a path of its own name; what happens to them is counted."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.blocked: list[str] = []
        self.at_once: Counter[str] = Counter()
        self.most_at_once = 0
        self.status: dict[str, int] = {}
        self.hang_up = False
        self.arrived = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{service}/api/admin/restart", self._restart)
        app.router.add_post("/{service}/api/admin/blocklist", self._block)
        app.router.add_get("/{service}/health", self._health)
        return app

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    async def _restart(self, request: web.Request) -> web.Response:
        name = request.match_info["service"]
        self.calls[name] += 1
        self.at_once[name] += 1
        self.most_at_once = max(self.most_at_once, self.at_once[name])
        self.arrived.set()
        await self.gate.wait()
        self.at_once[name] -= 1
        if self.hang_up and request.transport is not None:
            request.transport.close()
        return web.Response(status=self.status.get(name, 202))

    async def _block(self, request: web.Request) -> web.Response:
        self.calls[request.match_info["service"]] += 1
        self.blocked.append((await request.json())["user_id"])
        return web.Response(status=201)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"restarted": self.calls[request.match_info["service"]]})


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ms(self) -> int: ...

    async def sleep(self, duration_s: float) -> None: ...


class Row(msgspec.Struct, frozen=True):
    """A row of the audit, as far as the table shows it."""

    actor: str
    kind: str
    reason: str


@dataclass
class World:
    """What a situation is brought about with."""

    database: Database
    environment: Environment
    services: Services
    http: httpx.AsyncClient
    cli: Callable[..., Any]
    monkeypatch: pytest.MonkeyPatch
    cluster: Any = None
    namespace: str = ""
    clock: Clock = field(default_factory=ManualClock)
    settings: Settings = field(default_factory=Settings)
    topic: list[SignedCommand] = field(default_factory=list)
    delivered: int = 0

    def __post_init__(self) -> None:
        self.configure()

    def configure(
        self, *, mode: str = "approve", overrides: Sequence[Mapping[str, Any]] = (), **responder: Any
    ) -> None:
        """Settings as from a file; by default `http.request` may run alone."""
        given = overrides or [{"action": "http.request", "mode": "auto"}]
        part = {"mode": mode, "overrides": list(given), "databases": {"shop": self.database.url}, **responder}
        allow = ["http.request", "kubernetes.scale", "kubernetes.delete_pod", "kubernetes.rollout_restart"]
        executor = {"allow_actions": allow, "namespaces": [self.namespace] if self.namespace else []}
        self.settings = Settings.model_validate({"responder": part, "executor": executor})

    # the parts

    def responder(self) -> Responder:
        """The responder, as the role puts it together."""
        runbooks, problems = load_runbooks(RUNBOOKS, "guardrails.yml", actions=load_actions())
        assert not problems, [str(problem) for problem in problems]

        async def send(key: str, command: SignedCommand) -> None:
            self.topic.append(command)

        part = self.settings.responder
        windows = tuple(window.window() for window in part.maintenance)
        config = ResponderConfig(runbooks, load_actions(), policy(part), KEY, self.clock.now_ms, windows)
        databases = dict(self.settings.responder.databases)
        investigator = Investigator(self.http, databases=databases, hosts={}, query_url="")
        return Responder(config, self.database, investigator, send)

    def executor(self, name: str = "executor", actions: Mapping[str, Action] | None = None) -> Executor:
        """An executor, as the role puts it together."""
        settings = msgspec.structs.replace(executor_settings(self.settings), name=name)
        keys = signing.public_keys(KEY.public_key())
        return Executor(
            self.database, settings, keys, actions or load_actions(), self.environment, self.clock, self._monotonic_s
        )

    def _monotonic_s(self) -> float:
        return self.clock.now_ms() / 1000

    # what happens

    async def fire(self, alertname: str = "ServiceDown", service: str = "openclaw", **labels: str) -> None:
        """An alert fires, and what follows at once."""
        given = {"alertname": alertname, "severity": "warning", "service": service, "namespace": "aureus", **labels}
        await self._transition("firing", given)

    async def clear(self, alertname: str = "ServiceDown", service: str = "openclaw", **labels: str) -> None:
        """It ends because its condition did, or for the `cause` that is given."""
        cause = labels.pop("cause", "cleared")
        given = {"alertname": alertname, "severity": "warning", "service": service, "namespace": "aureus", **labels}
        await self._transition("resolved", given, cause=cause)

    async def _transition(self, state: str, labels: Mapping[str, str], **changes: Any) -> None:
        async with self.responder() as responder:
            await responder.on_transition(alert(state, self.clock.now_ms(), labels, **changes))
            await responder.settled()

    async def tick(self) -> None:
        """The responder looks at the time and at what people said."""
        async with self.responder() as responder:
            await responder.on_tick(self.clock.now_ms())
            await responder.settled()

    async def later(self, duration_ms: int) -> None:
        """Time passes."""
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(duration_ms)
        await self.tick()

    async def deliver(self) -> list[Outcome]:
        """Every command on its way reaches the executor, and its outcome the responder."""
        outcomes = []
        while self.delivered < len(self.topic):
            message = encode(self.topic[self.delivered])
            self.delivered += 1
            outcome = await self.executor().execute(message)
            if outcome is not None:
                outcomes.append(outcome)
                await self.report(outcome)
        return outcomes

    async def report(self, outcome: Outcome) -> None:
        """An outcome reaches the responder."""
        async with self.responder() as responder:
            await responder.on_outcome(outcome)
            await responder.settled()

    async def act(self, service: str = "openclaw", **labels: str) -> None:
        """An alert fires and is repaired."""
        await self.fire(service=service, **labels)
        await self.deliver()

    async def decide(self, verb: str, by: str, *more: str) -> Any:
        """A person approves or denies what waits, on the command line."""
        async with self.database.connection() as conn:
            command = await conn.fetchval("select command from approvals order by requested_ms desc limit 1")
        return await self.cli(verb, command, "--by", by, *more)

    async def end_leases(self) -> None:
        """Every lease ends by the database's clock."""
        async with self.database.connection() as conn:
            await conn.execute("update claims set lease_ms = 0 where outcome is null")

    # what is left

    async def audit(self) -> list[Row]:
        """The rows of the audit that give a reason, oldest first."""
        async with self.database.connection() as conn:
            rows = await audit.rows(conn)
        said = [(row, msgspec.json.decode(row.data)) for row in rows]
        return [Row(row.actor, row.kind, data.get("reason") or "") for row, data in said]

    async def has(self, kind: str, reason: str = "") -> int:
        """How often the audit says so."""
        return sum(row.kind == kind and reason in ("", row.reason) for row in await self.audit())


def command(**changes: Any) -> Command:
    """A command as the responder makes it for `openclaw`."""
    given: dict[str, Any] = {
        "id": "restart-1",
        "incident": 7,
        "rule": "aureus/ServiceDown",
        "runbook": "Restart",
        "step": "restart",
        "action": "http.request",
        "target": Target("http", "openclaw"),
        "params": {
            "method": "POST",
            "path": "/api/admin/restart",
            "expect_status": [202],
            "check": {"path": "/health", "expect": "body.restarted > 0", "within_s": 0.0},
        },
        "severity": "warning",
        "issued_ms": START_MS,
        "expires_ms": START_MS + 10 * MINUTE_MS,
        "namespace": "aureus",
        "priority": "P2",
    }
    return Command(**{**given, **changes})


def message(one: Command) -> bytes:
    """The command as its topic carries it."""
    return encode(signing.sign(one, KEY))


@contextlib.asynccontextmanager
async def running_services() -> AsyncIterator[Services]:
    """The services on loopback."""
    services = Services()
    runner = web.AppRunner(services.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    services.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield services
    services.gate.set()
    await runner.cleanup()


def environment(services: Services, http: httpx.AsyncClient) -> Environment:
    """All that the executor may touch: these services, no database."""
    hosts = {name: HttpHost(f"{services.url}/{name}") for name in SERVICES}
    return Environment(hosts=hosts, databases={}, http=http, connect=asyncpg.connect, sleep=_soon)


async def _soon(duration_s: float) -> None:
    await asyncio.sleep(duration_s / 20)
