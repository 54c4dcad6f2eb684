"""What one alert's handling consists of, and how it is followed from the fault to the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.nine.world import World

Object = dict[str, Any]
ALERT_S, HANDLED_S, TOLD_S = 90.0, 150.0, 20.0


@dataclass(frozen=True)
class Wanted:
    """A command that has to be sent, its target as a pattern; of its parameters those named must be as said."""

    action: str
    target: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """An alert: what goes wrong in the world, and what has to be seen afterwards.

    `fault` injects it and says what it did; `changed` reads the repaired system, says what it found there, and raises
    AssertionError otherwise. `evidence` are the steps that must have found something. `approve` says by which way a
    person agrees, for each action that waits for one: "api", "cli" or "slack". With `alarms` people are
    called, whatever comes of it. `mailed` get a mail.
    """

    alert: str
    labels: Mapping[str, str]
    fault: Callable[[World], Awaitable[str]]
    evidence: tuple[str, ...]
    commands: tuple[Wanted, ...]
    changed: Callable[[World], Awaitable[str]]
    approve: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    alarms: bool = False
    mailed: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """Its name in the table."""
        return self.name or self.alert


@dataclass(frozen=True)
class Handled:
    """What was seen, for the table."""

    alert: str
    fault: str
    commands: str
    changed: str
    verified_after_s: float
    report: str


class Follower:
    """Follows one row through the world."""

    def __init__(self, world: World, row: Row) -> None:
        self._world = world
        self._row = row
        self._agreed: set[str] = set()

    async def follow(self) -> Handled:
        """Inject the fault, wait until its incident is resolved, and hold what is there against what has to be."""
        world, row = self._world, self._row
        fault = await row.fault(world)
        started_s = time.monotonic()
        incident = await world.when(self._incident, f"an incident for {row.title}", ALERT_S)
        number = incident["id"]
        try:
            await world.when(lambda: self._is_over(number), f"the end of {row.title}", HANDLED_S)
            verified_after_s = time.monotonic() - started_s
            await self._check_alert()
            await self._check_evidence(number)
            commands = await self._check_commands(number)
            changed = await row.changed(world)
            report = await self._check_report(number)
            await world.when(lambda: self._is_told(number), f"people hearing of {row.title}", TOLD_S)
        except AssertionError as error:
            raise AssertionError(f"{row.title}: {error}\n{await self._story(number)}") from None
        return Handled(row.title, fault, commands, changed, verified_after_s, report)

    async def _incident(self) -> Object | None:
        return await self._world.incident(self._row.alert, **self._row.labels)

    async def _is_over(self, incident: int) -> bool:
        """Whether it is resolved; what it asks of a person is answered meanwhile. An escalation is the end, too."""
        await self._answer(incident)
        timeline = await self._world.timeline(incident)
        kinds = [entry["kind"] for entry in timeline]
        assert self._row.alarms or "incident.escalated" not in kinds, "people were called"
        return "incident.resolved" in kinds

    async def _answer(self, incident: int) -> None:
        for asked in await self._world.waiting(incident):
            if asked["command"] not in self._agreed:
                assert asked["action"] in self._row.approve, f"nobody was to be asked about {asked}"
                self._agreed.add(asked["command"])
                await _WAYS[self._row.approve[asked["action"]]](self._world, asked)

    async def _is_told(self, incident: int) -> bool:
        """Whether Slack has heard how it ended, and PagerDuty, where somebody was called, no longer calls."""
        people = self._world.people
        assert not people.pagerduty.problems + people.slack.problems
        ended = any(":white_check_mark:" in told for told in people.in_slack(incident))
        called = people.in_pagerduty(incident)
        wanted = bool(self._row.approve or self._row.alarms)
        quiet = bool(called) == wanted and set(called.values()) <= {"resolved"}
        return ended and quiet and self._row.mailed <= people.in_mail(incident)

    async def _check_alert(self) -> None:
        transitions = await self._world.on_topic("alerts")
        found = [one["state"] for one in transitions if self._is_ours(one)]
        assert "firing" in found, f"on the topic: {found}"
        assert "resolved" in found[found.index("firing") :], f"on the topic: {found}"

    def _is_ours(self, transition: Object) -> bool:
        return transition["alertname"] == self._row.alert and self._row.labels.items() <= transition["labels"].items()

    async def _check_evidence(self, incident: int) -> None:
        found = await self._world.evidence(incident)
        missing = [step for step in self._row.evidence if not found.get(step, {}).get("ok")]
        assert not missing, f"no evidence of {missing}: {found}"

    async def _check_commands(self, incident: int) -> str:
        sent = await self._world.commands(incident)
        assert len(sent) == len(self._row.commands), f"sent: {sent}"
        for wanted, got in zip(self._row.commands, sent, strict=True):
            assert wanted.action == got["action"], got
            assert fnmatchcase(got["target"], wanted.target), got
            assert wanted.params.items() <= got["params"].items(), got
            assert got["status"] == "succeeded", got
        timeline = await self._world.timeline(incident)
        kinds = [entry["kind"] for entry in timeline]
        assert "verify.succeeded" in kinds, kinds
        return ", ".join(f"{one['action']} {one['target'].rpartition('/')[2].rpartition(':')[2]}" for one in sent)

    async def _check_report(self, incident: int) -> str:
        report = await self._world.sentinel("report", str(incident))
        assert self._row.alert in report.splitlines()[0], report
        for wanted in self._row.commands:
            assert wanted.action in report, f"{wanted.action} is not told of in:\n{report}"
        assert "Repaired and verified" in report, report
        return f"incident {incident}, {len(report.splitlines())} lines"

    async def _story(self, incident: int) -> str:
        """Everything that was written down about an incident, to find out what went wrong."""
        lines = [f"  {entry['kind']}: {entry['data']}" for entry in await self._world.timeline(incident)]
        lines += [f"  evidence {step}: {found}" for step, found in (await self._world.evidence(incident)).items()]
        lines += [f"  command: {command}" for command in await self._world.commands(incident)]
        return "\n".join(line[:1500] for line in lines)


async def _by_api(world: World, asked: Object) -> None:
    """As the console's page does it: who, and the hash of exactly what was shown."""
    decision = {"approve": True, "by": "ada", "body_sha256": asked["body_sha256"]}
    answer = await world.http.post(f"{world.url('decide')}/api/approvals/{asked['command']}", json=decision)
    assert answer.is_success, answer.text


async def _by_cli(world: World, asked: Object) -> None:
    """`sentinel approve`."""
    await world.sentinel("approve", asked["command"], "--by", "grace", "--sha256", asked["body_sha256"], "--yes")


async def _by_slack(world: World, asked: Object) -> None:
    """The button under the question in Slack, pressed as soon as it is there; Slack signs what it sends."""

    async def press() -> bool:
        pressed = world.people.press(asked["command"])
        if pressed is None:
            return False
        body, headers = pressed
        answer = await world.http.post(f"{world.url('decide')}/hooks/slack", content=body, headers=headers)
        assert answer.is_success, answer.text
        return True

    await world.when(press, "the question in Slack", TOLD_S)


_WAYS: dict[str, Callable[[World, Object], Awaitable[None]]] = {
    "api": _by_api,
    "cli": _by_cli,
    "slack": _by_slack,
}


class Waves:
    """Runs the rows that do not touch each other side by side, wave after wave; each test awaits its own row."""

    def __init__(self, world: World, waves: Sequence[Sequence[Row]]) -> None:
        self._waves = waves
        self._world = world
        self._tasks: dict[str, asyncio.Task[Handled]] = {}

    async def handled(self, row: Row) -> Handled:
        """What came of a row; the waves before its own are through then."""
        for wave in self._waves:
            for one in wave:
                if one.title not in self._tasks:
                    self._tasks[one.title] = asyncio.create_task(Follower(self._world, one).follow())
            if row in wave:
                return await self._tasks[row.title]
            await asyncio.gather(*(self._tasks[one.title] for one in wave), return_exceptions=True)
        raise ValueError(row.title)

    async def cancel(self) -> None:
        """End what still runs."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
