"""The role `notifier`: makes deliveries of notices and delivers them, each receiver for itself.

Nothing waits for it: the responder writes notices in its own transaction and goes on. Receivers do not wait for each
other either; each is told one thing at a time. Several notifiers may run on one database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import msgspec
import structlog
from msgspec.structs import replace

from engine.core.messages import Command, decode_command
from engine.edge import deliveries
from engine.edge.database import Database
from engine.edge.deliveries import Delivery, NoticeRow
from engine.edge.settings_base import Section
from engine.edge.settings_notify import EmailReceiver, NotifySettings, is_address
from engine.edge.telemetry import Telemetry
from engine.notifiers import CALLS, Environment, Held, IncidentNow, Message, NotDeliveredError, Notifier, Sent
from engine.response.hours import told_ms
from engine.response.model import NoticeKind
from engine.response.words import clock

log = structlog.get_logger(__name__)

FIRST_MS, LONGEST_MS = 1_000, 60_000
LEASE_MARGIN_MS = 30_000
_UPDATES: frozenset[NoticeKind] = frozenset({"decided", "acknowledged", "resolved"})


def recipients(
    notice: NoticeRow, followers: Iterable[str], told: Collection[str], kinds: Mapping[str, Collection[NoticeKind]]
) -> list[str]:
    """Whom a notice goes to: those it names and those who follow every incident, or for an update those told before.

    `kinds` are what each known receiver has a use for. A name that is not known stays in, so that it is seen to fail.
    """
    named = [*notice.told, *(told if notice.kind in _UPDATES else followers)]
    return [name for name in dict.fromkeys(named) if name not in kinds or notice.kind in kinds[name]]


def pause_ms(attempts: int, draw: float) -> int:
    """How long to wait after so many failed attempts: doubling, and spread by `draw` (0 to 1) over its upper half."""
    full = min(LONGEST_MS, FIRST_MS << min(attempts - 1, 16))
    return round(full * (0.5 + draw / 2))


@dataclass(frozen=True)
class Target:
    """A receiver that is known: its notifier and its settings."""

    notifier: Notifier
    settings: Section


def target_of(receiver: str, settings: NotifySettings, notifiers: Mapping[str, Notifier]) -> Target | None:
    """How a receiver is told; None when the settings do not know it."""
    found = settings.receivers.get(receiver)
    if found is not None:
        return Target(notifiers[found.channel], getattr(found, found.channel))
    if is_address(receiver) and settings.knows(receiver):
        return Target(notifiers["email"], EmailReceiver(to=[receiver]))
    return None


class Notifying:
    """Delivers what is due, `turn` by `turn`."""

    def __init__(
        self,
        database: Database,
        env: Environment,
        notifiers: Mapping[str, Notifier],
        telemetry: Telemetry,
        external_url: str = "",
    ) -> None:
        self._database = database
        self._env = env
        self._notifiers = notifiers
        self._telemetry = telemetry
        self._external_url = external_url.rstrip("/")
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._left_alone_ms: dict[str, int] = {}  # until when a service has asked for it
        settings = env.settings
        self._lease_ms = round(settings.timeout_s * 1000) * 2 + LEASE_MARGIN_MS
        self._hours = settings.hours()
        self._followers = [name for name, receiver in settings.receivers.items() if receiver.follow]

    async def turn(self) -> int:
        """Route what is new and begin to deliver what is due; how many deliveries were begun."""
        await self._database.run(self._route)
        now_ms = self._env.now_ms()
        busy = {*self._in_flight, *(one for one, until_ms in self._left_alone_ms.items() if until_ms > now_ms)}

        async def take(conn: asyncpg.Connection) -> list[Delivery]:
            await deliveries.let_go(conn, now_ms)
            return await deliveries.claim(conn, busy, now_ms, self._lease_ms)

        claimed = await self._database.run(take)
        for row in claimed:
            task = asyncio.create_task(self._deliver(row), name=f"deliver to {row.receiver}")
            self._in_flight[row.receiver] = task
            task.add_done_callback(partial(self._landed, row.receiver))
        return len(claimed)

    def _landed(self, receiver: str, _: asyncio.Task[None]) -> None:
        del self._in_flight[receiver]

    async def settled(self) -> None:
        """Wait until nothing is being delivered by this process."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    async def close(self) -> None:
        """End what is under way; its lease lets another notifier take it."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def troubles(self) -> list[deliveries.Trouble]:
        """The receivers that cannot be told; sets the metric of what waits on the way."""

        async def work(conn: asyncpg.Connection) -> tuple[list[deliveries.Trouble], dict[str, int]]:
            return await deliveries.troubles(conn), await deliveries.waiting(conn)

        found, waiting = await self._database.run(work)
        for receiver in {*self._env.settings.receivers, *waiting}:
            self._telemetry.notifications_waiting.labels(receiver).set(waiting.get(receiver, 0))
        return found

    async def _route(self, conn: asyncpg.Connection) -> None:
        now_ms = self._env.now_ms()
        oldest_ms = now_ms - round(self._env.settings.updates_give_up_after_s * 1000)
        too_old = 0
        for notice in await deliveries.unrouted(conn):
            to: list[str] = []
            if notice.at_ms >= oldest_ms:
                told = await deliveries.told_before(conn, notice.incident) if notice.kind in _UPDATES else []
                to = recipients(notice, self._followers, told, self._kinds([*notice.told, *self._followers, *told]))
            else:  # it was written while nobody could be told
                too_old += 1
            await deliveries.add(conn, notice, to, notice.kind in CALLS, now_ms)
        if too_old:
            self._telemetry.drops.labels("notifier", "too_old").inc(too_old)
            log.warning("notify.too_old", notices=too_old)

    def _target(self, receiver: str) -> Target | None:
        return target_of(receiver, self._env.settings, self._notifiers)

    def _kinds(self, names: Iterable[str]) -> dict[str, Collection[NoticeKind]]:
        found = {name: self._target(name) for name in names}
        return {name: target.notifier.kinds for name, target in found.items() if target is not None}

    async def _deliver(self, row: Delivery) -> None:
        now_ms = self._env.now_ms()
        until_ms = told_ms(self._hours.get(row.receiver), row.priority, now_ms)
        if (
            row.state == "waiting" and until_ms > now_ms
        ):  # what is only repeated keeps an alert standing, and calls nobody
            await self._hold(row, until_ms)
            return
        try:
            receipt, repeat_ms = await self._attempt(row)
        except NotDeliveredError as error:
            await self._failed(row, error)
        except Exception as error:  # a defect of a notifier: as good as an outage, and said
            log.exception("notify.notifier_failed", receiver=row.receiver, notice=row.notice)
            await self._failed(row, NotDeliveredError(f"{type(error).__name__}: {error}"))
        else:
            await self._delivered(row, receipt, repeat_ms)

    async def _hold(self, row: Delivery, until_ms: int) -> None:
        async def work(conn: asyncpg.Connection) -> None:
            await deliveries.hold(conn, row, until_ms)

        await self._database.run(work)
        log.info("notify.held", receiver=row.receiver, incident=row.incident, notice=row.notice, until=clock(until_ms))

    async def _attempt(self, row: Delivery) -> tuple[dict[str, Any], int | None]:
        target = self._target(row.receiver)
        if target is None:
            raise NotDeliveredError(f"notify.receivers has no {row.receiver!r}", final=True)

        async def read(conn: asyncpg.Connection) -> tuple[Message, Sequence[Sent]]:
            message = await message_of(conn, row.notice, self._env.now_ms(), self._external_url)
            return message, await sent_before(conn, row)

        message, thread = await self._database.run(read)
        try:
            async with asyncio.timeout(self._env.settings.timeout_s * 2):  # the notifiers have their own limit
                receipt = await target.notifier.deliver(self._env, target.settings, message, thread)
        except TimeoutError as error:
            raise NotDeliveredError("no answer in time") from error
        repeats = message.kind != "resolved" and message.incident.status == "open"
        return receipt, target.notifier.repeat_ms if repeats else None

    async def _delivered(self, row: Delivery, receipt: dict[str, Any], repeat_ms: int | None) -> None:
        async def work(conn: asyncpg.Connection) -> bool:
            return await deliveries.delivered(conn, row, receipt, self._env.now_ms(), repeat_ms)

        await self._database.run(work)
        self._telemetry.notifications.labels(row.receiver, "delivered").inc()
        log.info("notify.delivered", receiver=row.receiver, incident=row.incident, notice=row.notice)

    async def _failed(self, row: Delivery, error: NotDeliveredError) -> None:
        now_ms, settings = self._env.now_ms(), self._env.settings
        limit_s = settings.give_up_after_s if row.calls else settings.updates_give_up_after_s
        is_over = error.final or now_ms - row.due_ms >= limit_s * 1000
        next_ms = now_ms + max(error.asked_ms, pause_ms(row.attempts, random.random()))  # noqa: S311  # jitter, not a secret

        async def work(conn: asyncpg.Connection) -> bool:
            if row.state == "waiting" and is_over:
                return await deliveries.give_up(conn, row, str(error), now_ms)
            await deliveries.failed(conn, row, str(error), next_ms)
            return False

        if error.asked_ms:
            self._left_alone_ms[row.receiver] = now_ms + error.asked_ms

        given_up = await self._database.run(work)
        self._telemetry.notifications.labels(row.receiver, "given_up" if given_up else "failed").inc()
        say = log.error if given_up else log.warning
        event = "notify.given_up" if given_up else "notify.failed"
        say(event, receiver=row.receiver, incident=row.incident, attempts=row.attempts, reason=str(error))


async def message_of(conn: asyncpg.Connection, notice: str, now_ms: int, external_url: str) -> Message:
    """A notice with its incident as it is now, and the command it is about."""
    row = await conn.fetchrow(
        "select n.id, n.kind, n.text, n.at_ms, n.command, i.id as incident, i.title, i.status, i.priority, i.severity, "
        "i.runbook, i.opened_ms, i.state->'alerts'->(i.state->>'trigger')->'labels' as labels, "
        "a.body, a.body_sha256, a.expires_ms, a.state as decision, a.people "
        "from notices n join incidents i on i.id = n.incident left join approvals a on a.command = n.command "
        "where n.id = $1",
        notice,
    )
    incident = IncidentNow(
        id=row["incident"],
        title=row["title"],
        status=row["status"],
        priority=row["priority"],
        severity=row["severity"],
        runbook=row["runbook"],
        labels=row["labels"],
        opened_ms=row["opened_ms"],
        url=f"{external_url}/incidents/{row['incident']}" if external_url else "",
    )
    message = Message(row["id"], row["kind"], row["text"], row["at_ms"], incident)
    if row["body"] is None:
        return message
    is_open = row["decision"] == "waiting" and now_ms < row["expires_ms"] and incident.status == "open"
    what = _whole(decode_command(row["body"]))
    held = Held(row["command"], row["body_sha256"], what, row["expires_ms"], is_open, row["people"])
    return replace(message, held=held)


async def sent_before(conn: asyncpg.Connection, row: Delivery) -> Sequence[Sent]:
    """What the receiver was told of the incident before, oldest first."""
    rows = await conn.fetch(
        "select n.kind, coalesce(n.command, '') as command, d.receipt "
        "from deliveries d join notices n on n.id = d.notice "
        "where d.incident = $1 and d.receiver = $2 and d.seq < $3 and d.receipt is not null order by d.seq",
        row.incident,
        row.receiver,
        row.seq,
    )
    return [Sent(**dict(found)) for found in rows]


def _whole(command: Command) -> str:
    """All that a person agrees to, in two lines."""
    return f"{command.action} on {command.target.key()}\n{msgspec.json.encode(command.params).decode()}"
