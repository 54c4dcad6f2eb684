"""A console on loopback HTTP over a store in memory, which holds what a test put there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from engine.console.model import (
    AlertNow,
    Approval,
    Decision,
    DecisionRefusedError,
    Incident,
    IncidentDetail,
    OperatorKind,
    OperatorRefusedError,
    Pause,
    Said,
    UndeliveredView,
)
from engine.console.server import Console
from engine.response.silences import Silence, checked

NOW_MS = 1_800_000_000_000


def make_incident(number: int, **changes) -> Incident:
    values = {
        "id": number,
        "title": f"Alert{number}",
        "state": "investigating",
        "priority": "P2",
        "severity": "warning",
        "rule": f"group/Alert{number}",
        "labels": {"job": "bridge"},
        "opened_ms": NOW_MS - 60_000,
    }
    return Incident(**{**values, **changes})


def make_approval(**changes) -> Approval:
    values = {
        "command": "c1",
        "incident": 7,
        "action": "http.request",
        "target": "http:bridge",
        "params": {"path": "/api/admin/restart"},
        "body_sha256": "ab" * 32,
        "requested_ms": NOW_MS - 5_000,
        "expires_ms": NOW_MS + 60_000,
    }
    return Approval(**{**values, **changes})


@dataclass
class MemoryStore:
    known: dict[int, IncidentDetail] = field(default_factory=dict)
    waiting: list[Approval] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)
    said: list[tuple[int, str, str, str, int]] = field(default_factory=list)
    merged: list[tuple[int, int | None]] = field(default_factory=list)
    troubles: list[UndeliveredView] = field(default_factory=list)
    switch: Pause = field(default_factory=lambda: Pause(False))
    quiet: dict[str, Silence] = field(default_factory=dict)

    def add(self, incident: Incident, **parts) -> None:
        empty = {"timeline": [], "evidence": [], "commands": [], "approvals": []}
        self.known[incident.id] = IncidentDetail(incident, **{**empty, **parts})

    async def incidents(self, *, open_only: bool, limit: int) -> list[Incident]:
        found = [detail.incident for detail in self.known.values()]
        return [incident for incident in found if incident.is_open or not open_only][:limit]

    async def incident(self, number: int) -> IncidentDetail | None:
        return self.known.get(number)

    async def report(self, number: int) -> str | None:
        return f"# Incident {number}\n" if number in self.known else None

    async def approvals(self) -> list[Approval]:
        return self.waiting

    async def operator(self, number: int, kind: OperatorKind, said: Said, now_ms: int) -> None:
        if number not in self.known:
            raise OperatorRefusedError(f"there is no incident {number}")
        self.said.append((number, kind, said.by, said.text, now_ms))
        self.merged.append((number, said.into))

    async def decide(self, command: str, decision: Decision, now_ms: int) -> Approval:
        found = [waiting for waiting in self.waiting if waiting.command == command]
        if not found or found[0].body_sha256 != decision.body_sha256 or now_ms >= found[0].expires_ms:
            raise DecisionRefusedError("it does not count")
        self.decisions.append((command, decision))
        return found[0]

    async def silences(self, limit: int) -> list[Silence]:
        return sorted(self.quiet.values(), key=lambda one: -one.ends_ms)[:limit]

    async def silence(self, silence_id: str) -> Silence | None:
        return self.quiet.get(silence_id)

    async def add_silence(self, silence: Silence, now_ms: int) -> Silence:
        kept = checked(msgspec.structs.replace(silence, id=f"s{len(self.quiet) + 1}"))
        self.quiet[kept.id] = kept
        return kept

    async def expire_silence(self, silence_id: str, by: str, now_ms: int) -> Silence | None:
        found = self.quiet.get(silence_id)
        if found is None or found.ends_ms <= now_ms:
            return None
        self.quiet[silence_id] = msgspec.structs.replace(found, ends_ms=now_ms)
        return self.quiet[silence_id]

    async def undelivered(self) -> list[UndeliveredView]:
        return self.troubles

    async def pause(self) -> Pause:
        return self.switch

    async def set_pause(self, *, paused: bool, by: str, now_ms: int) -> None:
        self.switch = Pause(paused, by, now_ms)


@dataclass
class Site:
    client: TestClient
    store: MemoryStore
    alerts: list[AlertNow]
    failing: list[Exception] = field(default_factory=list)

    async def alerts_now(self) -> list[AlertNow]:
        if self.failing:
            raise self.failing[0]
        return self.alerts

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with self.client.get(path, headers=headers) as response:
            return response.status, await response.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    store = MemoryStore()
    app = web.Application()
    made = Site(TestClient(TestServer(app)), store, [])
    app.add_routes(
        Console(store, made.alerts_now, lambda: NOW_MS, external_url="http://sentinel.example:9560").routes()
    )
    async with made.client:
        yield made
