"""When a query is asked: at one time, or at several in one range query."""

from __future__ import annotations

from random import Random

from tests.real_promql.series import START_MS

_MINUTE_MS = 60_000


def times_of(text: str, seed: int, *, newest: bool) -> range:
    """When to ask a query: at one time in two of three cases. For Prometheus 2 all lie 25 s past a minute.

    `info()` is asked for one time: Prometheus 3.5 may mix up series over several.
    """
    rng = Random(seed)
    at_ms = START_MS + rng.choice((2, 7, 16, 29, 33)) * _MINUTE_MS + 25_000
    if newest:
        at_ms += rng.choice((0, 0, 5_000, 20_000, 1, -1, 123))
    if rng.random() < 0.66 or "info(" in text:
        return range(at_ms, at_ms + 1)
    step_ms = rng.choice((_MINUTE_MS, 3 * _MINUTE_MS, *((15_000, 47_300) if newest else ())))
    return range(at_ms, at_ms + rng.choice((3, 11)) * step_ms + 1, step_ms)
