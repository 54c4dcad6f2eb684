"""The database's clock, carried on by the monotonic one: what the machine's wall clock does changes nothing.

```
database   1000 s ......................... 1009.9 s (it runs slower)
monotonic     5 s ....... 7 s .............. 15 s
now        1000 s      1002 s    1010 s, then 1009.9 s: in step again
```
"""

from __future__ import annotations

import time

import pytest

from engine.edge import control
from engine.edge.clock import DatabaseClock
from engine.edge.database import Database


class Times:
    """Two clocks that go as they are told; reading the database's takes `takes_s`."""

    def __init__(self) -> None:
        self.database_ms, self.monotonic_s, self.takes_s = 1_000_000, 5.0, 0.0

    async def read(self) -> int:
        self.monotonic_s += self.takes_s
        return self.database_ms

    def clock(self) -> DatabaseClock:
        return DatabaseClock(self.read, lambda: self.monotonic_s)


async def test_it_goes_on_between_two_readings_and_follows_each() -> None:
    times = Times()
    clock = times.clock()
    await clock.sync()
    assert clock.now_ms() == 1_000_000
    times.monotonic_s += 2
    assert clock.now_ms() == 1_002_000
    times.monotonic_s += 8
    times.database_ms += 9_900
    assert clock.now_ms() == 1_010_000
    await clock.sync()
    assert clock.now_ms() == 1_009_900


async def test_an_answer_is_taken_to_be_from_the_middle_of_its_way() -> None:
    times = Times()
    times.takes_s = 0.4
    clock = times.clock()
    await clock.sync()
    assert clock.now_ms() == 1_000_200


async def test_it_is_the_databases_time_whatever_this_machines_wall_clock_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = DatabaseClock(lambda: database.run(control.clock_ms))
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    await clock.sync()
    before_ms = await database.run(control.clock_ms)
    between_ms = clock.now_ms()
    after_ms = await database.run(control.clock_ms)
    assert before_ms - 1_000 < between_ms < after_ms + 1_000
