"""How long incidents wait for people and last: mean times to acknowledge and to resolve, and what they leave out.

MTTA is from opening to the first acknowledgement, MTTR from opening to the (last) resolution or closing; an incident
that came back counts until it stayed away. Incidents that were merged into another are that one's and not counted.
Those that nobody acknowledged have no time to acknowledge; they are counted beside the mean, not in it as nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct


class Lifetime(Struct, frozen=True):
    """When an incident was opened, first acknowledged and over. None: not."""

    id: int
    runbook: str
    severity: str
    opened_ms: int
    acknowledged_ms: int | None
    ended_ms: int | None
    by_itself: bool = False

    @property
    def acknowledge_ms(self) -> int | None:
        """How long it waited for somebody."""
        return max(0, self.acknowledged_ms - self.opened_ms) if self.acknowledged_ms is not None else None

    @property
    def resolve_ms(self) -> int | None:
        """How long it lasted."""
        return max(0, self.ended_ms - self.opened_ms) if self.ended_ms is not None else None


class Stats(Struct, frozen=True):
    """The incidents of a runbook and severity ("" and "": all). Means are None without any to take them of."""

    runbook: str
    severity: str
    incidents: int
    open: int
    acknowledged: int
    open_unacknowledged: int
    by_itself: int
    mtta_ms: int | None
    mttr_ms: int | None
    longest_ms: int | None
    oldest_open_ms: int | None


def stats_of(lifetimes: Iterable[Lifetime], now_ms: int) -> list[Stats]:
    """The whole first, then each runbook and severity in order."""
    found = list(lifetimes)
    keys = sorted({(one.runbook, one.severity) for one in found})
    parts = [_stats(key, [one for one in found if (one.runbook, one.severity) == key], now_ms) for key in keys]
    return [_stats(("", ""), found, now_ms), *parts]


def _stats(key: tuple[str, str], found: Sequence[Lifetime], now_ms: int) -> Stats:
    still = [one for one in found if one.ended_ms is None]
    ended = _times(found, lambda one: one.resolve_ms)
    waited = _times(found, lambda one: one.acknowledge_ms)
    return Stats(
        runbook=key[0],
        severity=key[1],
        incidents=len(found),
        open=len(still),
        acknowledged=len(waited),
        open_unacknowledged=sum(one.acknowledged_ms is None for one in still),
        by_itself=sum(one.by_itself for one in found),
        mtta_ms=_mean(waited),
        mttr_ms=_mean(ended),
        longest_ms=max(ended, default=None),
        oldest_open_ms=max((now_ms - one.opened_ms for one in still), default=None),
    )


def _times(found: Iterable[Lifetime], of: Callable[[Lifetime], int | None]) -> list[int]:
    return [span_ms for one in found if (span_ms := of(one)) is not None]


def _mean(times: Sequence[int]) -> int | None:
    return sum(times) // len(times) if times else None
