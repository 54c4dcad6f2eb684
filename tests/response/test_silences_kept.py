"""Silences on a real PostgreSQL: kept, audited, and what the responder makes of them."""

from __future__ import annotations

import datetime as dt

import asyncpg
import pytest
from msgspec.structs import replace

from engine.core.labels import Matcher
from engine.edge import audit, silences
from engine.edge.database import Database
from engine.edge.settings_response import MaintenanceWindow
from engine.response.silences import Silence
from tests.response.conftest import SPIKE, START_MS, alert
from tests.response.test_responder import World, world  # noqa: F401  # a fixture

HOUR_MS = 3_600_000
FIELDS = (Matcher("service", "=", "aureus-os"),), START_MS, START_MS + HOUR_MS, "ada", "load test"


async def add(database: Database, silence: Silence | None = None, now_ms: int = START_MS) -> Silence:
    made = silence or Silence(silences.new_id(), *FIELDS)

    async def work(conn: asyncpg.Connection) -> Silence:
        return await silences.add(conn, made, now_ms)

    return await database.run(work)


async def expire(database: Database, silence_id: str, now_ms: int) -> Silence | None:
    async def work(conn: asyncpg.Connection) -> Silence | None:
        return await silences.expire(conn, silence_id, "bob", now_ms)

    return await database.run(work)


async def test_a_silence_is_kept_with_who_made_it_and_who_ended_it_in_the_audit(database: Database) -> None:
    kept = await add(database)
    async with database.connection() as conn:
        assert await silences.not_over(conn, START_MS) == (kept,)
        assert await silences.find(conn, kept.id) == kept
        assert await silences.find(conn, "not an id") is None
    ended = await expire(database, kept.id, START_MS + 5)
    assert ended == replace(kept, ends_ms=START_MS + 5)
    assert await expire(database, kept.id, START_MS + 6) is None
    async with database.connection() as conn:
        assert await silences.not_over(conn, START_MS + 5) == ()
        assert await silences.newest(conn, 10) == [ended]
        rows = await audit.rows(conn)
        assert [(row.kind, row.actor) for row in rows] == [("silence.added", "ada"), ("silence.expired", "bob")]
        assert await audit.verify(conn) is None


async def test_the_same_silence_twice_is_one_and_one_from_the_past_begins_now(database: Database) -> None:
    made = Silence(silences.new_id(), *FIELDS)
    for _ in range(2):
        kept = await add(database, made, START_MS + 7)
    assert kept.starts_ms == START_MS + 7
    async with database.connection() as conn:
        assert len(await audit.rows(conn)) == 1


async def test_a_silence_that_has_not_begun_can_be_called_off(database: Database) -> None:
    later = Silence(silences.new_id(), FIELDS[0], START_MS + HOUR_MS, START_MS + 2 * HOUR_MS, "ada", "nodes")
    await add(database, later)
    ended = await expire(database, later.id, START_MS)
    assert ended is not None
    assert ended.starts_ms == ended.ends_ms == START_MS


async def test_every_change_of_a_silence_gives_another_version(database: Database) -> None:
    async with database.connection() as conn:
        versions = [await silences.version(conn)]
        kept = await add(database)
        versions.append(await silences.version(conn))
        await expire(database, kept.id, START_MS + 1)
        versions.append(await silences.version(conn))
    assert len(set(versions)) == 3


async def test_the_responder_holds_an_incident_and_goes_on_at_once_when_its_silence_is_expired(
    world: World,  # noqa: F811  # the fixture
) -> None:
    kept = await add(world.database)
    async with world.responder() as responder:
        await responder.on_tick(world.now_ms)
        await responder.on_transition(alert("firing", START_MS))
        await responder.settled()
        assert (await world.state()).awaiting.kind == "muted"
        world.now_ms += 1000
        await responder.on_tick(world.now_ms)
        assert (await world.state()).awaiting.kind == "muted"
        assert world.topic == []
        await expire(world.database, kept.id, world.now_ms)
        await responder.on_tick(world.now_ms)
        await responder.settled()
    assert len(world.topic) == 1
    kinds = await world.kinds()
    assert kinds.index("incident.held") < kinds.index("incident.unmuted") < kinds.index("command.sent")
    async with world.database.connection() as conn:
        told = await conn.fetch("select kind, at_ms from notices")
    assert [tuple(row) for row in told] == [("opened", world.now_ms)], "nobody heard of it before"


async def test_a_held_incident_goes_on_by_itself_when_the_silence_is_over_also_after_a_restart(
    world: World,  # noqa: F811  # the fixture
) -> None:
    await add(world.database)
    async with world.responder() as first:
        await first.on_transition(alert("firing", START_MS))
        await first.settled()
    world.now_ms = START_MS + HOUR_MS
    async with world.responder() as second:
        await second.on_tick(world.now_ms)
        await second.settled()
    assert len(world.topic) == 1


def test_a_window_of_the_settings_is_the_window_it_says() -> None:
    given = MaintenanceWindow(
        name="backup", match=['service="aureus-os"'], weekdays=["sun"], start="02:30", duration_s=60, timezone="UTC"
    )
    window = given.window()
    assert (window.weekdays, window.start, window.duration_ms) == (frozenset({6}), dt.time(2, 30), 60_000)
    assert window.matchers == (Matcher("service", "=", SPIKE["service"]),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"match": ["service"]}, "not a matcher"),
        ({"match": ['service=~"("']}, "bad regular expression"),
        ({"match": []}, "at least 1"),
        ({"start": "24:00"}, "pattern"),
        ({"timezone": "Europe/Nowhere"}, "not known"),
        ({"timezone": "../etc/passwd"}, "not known"),
        ({"duration_s": 0}, "greater than 0"),
        ({"weekdays": ["someday"]}, "weekdays"),
    ],
)
def test_a_window_that_cannot_be_one_is_refused(changes: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"name": "backup", "match": ['a="b"'], "start": "02:00", "duration_s": 60}
    with pytest.raises(ValueError, match=words):
        MaintenanceWindow.model_validate({**given, **changes})
