"""The world of the nine alerts: every part real, started once, and Sentinel watching it as three processes.

```
pods' pages ──scrape── Prometheus ──remote write──▶ ┌ take: connectors, router, evaluator ┐
services' logs ─────── Loki ───────tail───────────▶ └─────────────── Kafka ───────────────┘
PagerDuty, Slack, mail ◀──────────────────────────── decide: responder, notifier, console   (reads: SQL, Loki, cluster)
cluster, PostgreSQL, Compose, KMS, HTTP ◀─────────── act: executor, with what `sentinel permissions` printed
```
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from tests.cluster import Cluster
from tests.nine.container import Container
from tests.nine.gateway import Gateway
from tests.nine.kms import Kms
from tests.nine.people import People
from tests.nine.signatures import Signatures
from tests.nine.town import Town
from tests.parts import Program, answers
from tests.topics import whole_topic
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
Object = dict[str, Any]


@dataclass
class World:
    """Where everything is, and what a person at a desk would do with it."""

    folder: Path
    cluster: Cluster
    town: Town
    kafka_url: str
    database: asyncpg.Pool  # Sentinel's own
    shop_url: str  # the watched server, as its superuser
    gateway: Gateway
    signatures: Signatures
    kms: Kms
    container: Container
    people: People
    http: httpx.AsyncClient
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by process
    programs: dict[str, Program] = field(default_factory=dict)
    environments: dict[str, Mapping[str, str]] = field(default_factory=dict)  # what a process has beside ours
    alerts: list[Object] = field(default_factory=list)  # pending or firing at the last look
    leaked: list[asyncpg.Connection] = field(default_factory=list)

    # Sentinel's processes

    def url(self, process: str) -> str:
        """Where a process listens."""
        return f"http://{self.settings[process]['http']['listen']}"

    async def start(self, processes: Mapping[str, str]) -> None:
        """`sentinel run` for each (name -> roles), until every one is ready."""
        for name, roles in processes.items():
            file = self.folder / f"{name}.yml"
            file.write_bytes(msgspec.json.encode(self.settings[name]))
            command = [sys.executable, "-m", "engine.cli", "run", "--role", roles, "--config", str(file)]
            environment = own_environment() | self.environments.get(name, {})
            self.programs[name] = Program(command, self.folder / f"{name}.log", environment, self.folder)
        for name in processes:
            await until(lambda name=name: asyncio.to_thread(self._is_ready, name), 90, f"readiness of {name}")

    def _is_ready(self, name: str) -> bool:
        program = self.programs[name]
        if program.process.poll() is not None:
            raise RuntimeError(f"{name} ended with {program.process.returncode}:\n{tail(program.log)}")
        return answers(f"{self.url(name)}/ready")

    def stop(self) -> dict[str, int]:
        """End them in good order; their exit statuses."""
        return {name: program.stop() for name, program in self.programs.items()}

    async def is_calm(self) -> bool:
        """Whether every pod is seen to answer, and no alert is pending or firing."""
        asked = {"query": 'sum(up{namespace="aureus", pod!=""})'}
        prometheus = self.settings["decide"]["responder"]["query_url"]
        up = (await self.http.get(f"{prometheus}/api/v1/query", params=asked)).json()["data"]["result"]
        alerts = (await self.http.get(f"{self.url('take')}/api/v1/alerts")).json()["data"]["alerts"]
        self.alerts = [one["labels"] for one in alerts]
        return bool(up) and float(up[0]["value"][1]) == len(self.town.targets()) and not alerts

    # what Sentinel has written down

    async def incident(self, alert: str, **labels: str) -> Object | None:
        """The newest incident about an alert with these labels."""
        rows = await self.database.fetch("select id, status, state::text as state from incidents order by id desc")
        for row in rows:
            for seen in json.loads(row["state"])["alerts"].values():
                if seen["alertname"] == alert and labels.items() <= seen["labels"].items():
                    return {"id": row["id"], "status": row["status"]}
        return None

    async def timeline(self, incident: int) -> list[Object]:
        """The audit's rows about an incident, in order."""
        rows = await self.database.fetch(
            "select kind, command, data::text as data from audit where incident = $1 order by seq", incident
        )
        return [{**dict(row), "data": json.loads(row["data"])} for row in rows]

    async def evidence(self, incident: int) -> dict[str, Object]:
        """What its steps found, by step; the last attempt's."""
        rows = await self.database.fetch(
            "select step, result::text as result from evidence where incident = $1 order by seq", incident
        )
        return {row["step"]: json.loads(row["result"]) for row in rows}

    async def commands(self, incident: int) -> list[Object]:
        """The commands that were sent, with their parameters and what became of them."""
        rows = await self.database.fetch(
            "select step, action, target, signed, status, reason from commands where incident = $1 order by seq",
            incident,
        )
        found = []
        for row in rows:
            body = json.loads(json.loads(row["signed"])["body"])
            found.append({**dict(row), "params": body["params"], "signed": None})
        return found

    async def on_topic(self, topic: str) -> list[Object]:
        """Every message that stands on a topic now."""
        return [json.loads(message) for message in await whole_topic(self.kafka_url, f"sentinel-{topic}")]

    # what a person does

    async def sentinel(self, *arguments: str, process: str = "decide") -> str:
        """What the command line prints. AssertionError with what it complained of."""
        config = str(self.folder / f"{process}.yml")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "engine.cli", *arguments, "--config", config],
            capture_output=True,
            text=True,
            env=own_environment(),
            cwd=self.folder,
            timeout=60,
        )
        assert done.returncode == 0, f"sentinel {' '.join(arguments)}: {done.returncode} {done.stderr}\n{done.stdout}"
        return str(done.stdout)

    async def waiting(self, incident: int) -> list[Object]:
        """What is asked of a person in an incident, as the console's API has it."""
        asked = (await self.http.get(f"{self.url('decide')}/api/approvals")).json()
        return [one for one in asked if one["incident"] == incident]

    # waiting

    async def when(self, condition: Callable[[], Awaitable[Any]], what: str, timeout_s: float) -> Any:
        """The first truthy answer; AssertionError with the ends of the logs when the time is up."""
        try:
            return await until(condition, timeout_s, what)
        except AssertionError as error:
            logs = "\n".join(f"--- {name}\n{tail(one.log)}" for name, one in self.programs.items())
            raise AssertionError(f"{error}\nalerts: {self.alerts}\n{logs}") from None


def own_environment() -> dict[str, str]:
    """What a process needs of ours: nothing that would be a setting or a credential, and no proxy on the way."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SENTINEL_", "PG", "AWS_"))}
    direct = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    return direct | {"PYTHONPATH": str(ROOT)}


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, without what is said all the time."""
    said = [line for line in log.read_text(errors="replace").splitlines() if '"level": "info"' not in line]
    return "\n".join(said[-lines:])
