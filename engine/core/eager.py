"""When a rule is evaluated between its ticks: at the own times of the events that its selectors match.

In every second of event time the first `per_s` distinct event times are evaluated as they are; later ones in that
second wait for the next point of a fine grid (`grid_ms`). So a rare event is judged within the millisecond, and a
flood costs a bounded number of evaluations. Which times come out depends only on which event times went in, never on
how they were batched: that is what makes a replay exact.

    events   |..x.x...xxxxxxxxxxxxxxxxxxxxx.......|          per_s=4, grid_ms=50
    evaluate |..^.^...^^   ^    ^    ^    ^    ^  |          own times until 4 are spent, then every 50 ms
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from engine.core.expression import Times


class EagerTimes:
    """The evaluation times of one rule; feed it event times with `add`, take what is due with `take`."""

    def __init__(self, per_s: int, grid_ms: int) -> None:
        self._per_s = per_s
        self._grid_ms = grid_ms
        self._waiting: Times = np.empty(0, np.int64)
        self._grid_due: list[int] = []
        self._cell = _Cell(-1, 0)

    def add(self, t_ms: Times) -> None:
        """Note the times of matching events, in any order and with repetitions."""
        if len(t_ms):
            self._waiting = np.union1d(self._waiting, t_ms)

    def take(self, before_ms: int) -> list[int]:
        """The evaluation times earlier than `before_ms`, ascending; no event older than that may come any more."""
        due = int(np.searchsorted(self._waiting, before_ms))
        times, self._waiting = self._waiting[:due], self._waiting[due:]
        chosen = set(self._grid_due)
        for t_ms in times.tolist():
            second = t_ms // 1000
            if second != self._cell.second:
                self._cell = _Cell(second, 0)
            if self._cell.used < self._per_s:
                self._cell.used += 1
                chosen.add(t_ms)
            else:
                chosen.add((t_ms // self._grid_ms + 1) * self._grid_ms)
        self._grid_due = sorted(t_ms for t_ms in chosen if t_ms >= before_ms)
        return sorted(t_ms for t_ms in chosen if t_ms < before_ms)


class _Cell(Struct):
    """One second of event time, and how many evaluations it has had."""

    second: int
    used: int
