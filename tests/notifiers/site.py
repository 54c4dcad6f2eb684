"""A responder and a notifier on one real PostgreSQL, with the services as stubs on loopback and the time in hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx

from engine.actions import load_actions
from engine.core.messages import SignedCommand
from engine.edge import approvals, audit, incidents
from engine.edge.database import Database
from engine.edge.investigate import Investigator
from engine.edge.notify_hooks import Hooks
from engine.edge.notifying import Notifying
from engine.edge.responder import Responder, ResponderConfig
from engine.edge.settings_notify import NotifySettings
from engine.edge.telemetry import Telemetry
from engine.notifiers import Environment, load_notifiers
from engine.response import signing
from engine.response.guardrails import Policy
from engine.response.model import IncidentState, Operated
from engine.response.runbook import load_runbooks
from tests.notifiers.stubs import (
    PAGERDUTY_SECRET,
    ROUTING_KEY,
    SLACK_SECRET,
    SLACK_TOKEN,
    AlertmanagerStub,
    Mailbox,
    PagerDutyStub,
    SlackStub,
)
from tests.notifiers.tls import Tls
from tests.response.conftest import START_MS, alert

EXTERNAL_URL = "https://sentinel.example.org"
LABELS = {"alertname": "Down", "severity": "critical", "service": "bridge", "namespace": "aureus"}
MINUTE_MS = 60_000

RUNBOOKS = """\
runbooks:
  - name: Down
    match: ['alertname="Down"']
    priority: P1
    group_by: [namespace]
    limits: {stabilisation: 30s}
    escalation: [{to: on-call}, {to: lead, after: 15m}, {to: boss@example.org, after: 30m}]
    summary: "{{ labels.service }} is down"
    steps:
      - {name: tell, notify: {to: ops, text: "looks at {{ labels.service }}"}}
      - {name: people, escalate: {text: "needs a person"}}
  - name: Block
    match: ['alertname="Attack"']
    priority: P1
    escalation: [{to: ops}, {to: lead, after: 15m}]
    summary: "{{ labels.service }} is attacked"
    steps:
      - name: block
        act:
          action: http.request
          target: openclaw
          params: {method: POST, path: /block, json: {user_id: mallory}, check: {path: /block, expect: "true"}}
          expires: 10m
      - {name: check, verify: {}}
"""
CHANNELS: Mapping[str, dict[str, Any]] = {
    "on-call": {"pagerduty": {"routing_key": ROUTING_KEY}},
    "ops": {"slack": {"channel": "C0OPS"}},
    "lead": {"email": {"to": ["lead@example.org"]}},
    "alerts": {"alertmanager": {"url": "http://127.0.0.1:1"}},
}


@dataclass
class Services:
    """The stubs and the mail server."""

    tls: Tls
    pagerduty: PagerDutyStub
    slack: SlackStub
    alertmanager: AlertmanagerStub
    mailbox: Mailbox

    def settings(self, *receivers: str, follow: str = "", **changes: Any) -> NotifySettings:
        """The settings with these receivers (all but `alerts` if none are named)."""
        ca_file = str(self.tls.ca_file)
        named = {name: CHANNELS[name] for name in receivers or ("on-call", "ops", "lead")}
        if "alerts" in named:
            named["alerts"] = {"alertmanager": {"url": self.alertmanager.url, "ca_file": ca_file}}
        if follow:
            named[follow] = named[follow] | {"follow": True}
        return NotifySettings.model_validate(
            {
                "receivers": named,
                "pagerduty": {"url": self.pagerduty.url, "ca_file": ca_file, "webhook_secret": PAGERDUTY_SECRET},
                "slack": {
                    "url": self.slack.url,
                    "ca_file": ca_file,
                    "token": SLACK_TOKEN,
                    "signing_secret": SLACK_SECRET,
                    "approvers": ["U0ADA"],
                },
                "email": {"host": "127.0.0.1", "port": self.mailbox.port, "sender": "s@example.org", "tls": "none"},
                "timeout_s": 10,
                **changes,
            }
        )

    def problems(self) -> list[str]:
        """What broke a documented schema."""
        return [*self.pagerduty.problems, *self.slack.problems, *self.alertmanager.problems]


@dataclass
class Site:
    """What a test plays with."""

    database: Database
    services: Services
    settings: NotifySettings
    now_ms: int = START_MS
    runbooks: str = RUNBOOKS
    policy: Policy = field(default_factory=Policy)
    sent: list[str] = field(default_factory=list)
    telemetry: Telemetry = field(default_factory=lambda: Telemetry(process_metrics=False))

    def __post_init__(self) -> None:
        runbooks, problems = load_runbooks(self.runbooks, "book.yml", actions=load_actions())
        assert not problems
        config = ResponderConfig(
            runbooks,
            load_actions(),
            self.policy,
            signing.generate(),
            lambda: self.now_ms,
            hours=self.settings.hours(),
        )
        investigator = Investigator(httpx.AsyncClient(), databases={}, hosts={}, query_url="")
        self.responder = Responder(config, self.database, investigator, self._send)
        self.notifying = self.notifier()
        self.hooks = Hooks(self.database, self.env)

    @property
    def env(self) -> Environment:
        return Environment(self.settings, lambda: self.now_ms, {})

    def notifier(self) -> Notifying:
        """One more notifier on the same database."""
        return Notifying(self.database, self.env, load_notifiers(), self.telemetry, EXTERNAL_URL)

    async def _send(self, _: str, command: SignedCommand) -> None:
        self.sent.append(command.body)

    async def alert(self, state: str, **labels: str) -> None:
        """An alert changes."""
        await self.responder.on_transition(alert(state, self.now_ms, LABELS | labels))

    async def deliver(self) -> None:
        """Deliver everything that is due."""
        while await self.notifying.turn():
            await self.notifying.settled()

    async def after(self, wait_ms: int) -> None:
        """Time goes by: the responder's turn, then the notifier's."""
        self.now_ms += wait_ms
        await self.responder.on_tick(self.now_ms)
        await self.deliver()

    async def say(self, kind: Any, by: str = "ada", incident: int = 1) -> None:
        """A person says something on the console."""
        async with self.database.transaction() as conn:
            assert await incidents.operate(conn, incident, Operated(kind, by), self.now_ms) == "open"

    async def rows(self, query: str) -> list[asyncpg.Record]:
        async with self.database.connection() as conn:
            return list(await conn.fetch(query))

    async def states(self) -> dict[tuple[str, str], str]:
        """How each delivery stands, by kind and receiver."""
        found = await self.rows(
            "select n.kind, d.receiver, d.state from deliveries d join notices n on n.id = d.notice order by d.seq"
        )
        return {(row["kind"], row["receiver"]): row["state"] for row in found}

    async def state(self, incident: int = 1) -> IncidentState:
        async with self.database.connection() as conn:
            found = await incidents.load(conn, incident)
        assert found is not None
        return found

    async def approval(self) -> approvals.Approval:
        """The only approval that was asked for."""
        [row] = await self.rows("select command from approvals")
        async with self.database.connection() as conn:
            found = await approvals.find(conn, row["command"])
        assert found is not None
        return found

    async def audited(self, kind: str) -> list[dict[str, Any]]:
        """The audit's rows of a kind, as data; the chain holds."""
        async with self.database.connection() as conn:
            assert await audit.verify(conn) is None
        found = await self.rows("select actor, kind, data::text from audit order by seq")
        return [json.loads(row["data"]) | {"actor": row["actor"]} for row in found if row["kind"] == kind]
