"""Seeded data for comparisons: gauges, counters and classic histograms with what goes wrong in real ones.

Samples are taken every 15 s, with gaps, staleness markers, NaN and infinities, and counters that are reset. No sample
time is a multiple of 5 s, as evaluation times, ranges and offsets are: so it makes no difference that ranges are closed
on the left before Prometheus 3. Counters stay far from zero for the same reason: near it, old and new extrapolate
differently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from engine.core.labels import Labels
from engine.core.window import STALE

START_MS = 1_700_000_040_000
"""A multiple of a minute."""
EVERY_MS, SAMPLES = 15_000, 120
BOUNDS = ("0.1", "0.5", "1", "2.5", "+Inf")

Series = tuple[Labels, list[tuple[int, float]]]


def generate(seed: int) -> list[Series]:
    """Some fifty series over half an hour."""
    rng = Random(seed)
    result: list[Series] = []
    for job in "ab":
        for instance in "012":
            target = {"job": job, "instance": instance}
            result.append(({"__name__": "g", **target}, _holey(rng, _gauge(rng))))
            result.append(({"__name__": "c_total", **target}, _holey(rng, _counter(rng))))
        result.append(({"__name__": "per_job", "job": job}, _holey(rng, _gauge(rng))))
        for zone in ("x", "y"):
            result.append(({"__name__": "h", "job": job, "zone": zone}, _holey(rng, _odd(rng, _gauge(rng)))))
            result += _histogram(rng, {"job": job, "zone": zone})
        result.append(({"__name__": "d_total", "job": job}, _holey(rng, _counter(rng))))
    result.append(({"__name__": "one"}, list(zip(_times(rng), _gauge(rng), strict=True))))
    info = {"__name__": "target_info", "job": "a", "instance": "1", "version": "1.2" * 99, "zone": "x"}
    result.append((info, [(t, 1.0) for t in _times(rng)]))
    return result


def _times(rng: Random) -> list[int]:
    return [START_MS + i * EVERY_MS + rng.randrange(100, 4900) for i in range(SAMPLES)]


def _gauge(rng: Random) -> list[float]:
    value = rng.randrange(-40, 41) * 1.25
    values = []
    for _ in range(SAMPLES):
        if rng.random() < 0.8:
            value += rng.randrange(-12, 13) * 0.75 + rng.random() / 64
        values.append(value)
    return values


def _counter(rng: Random) -> list[float]:
    value = 50_000.0
    values = []
    for _ in range(SAMPLES):
        value = 20_000.0 + rng.randrange(99) if rng.random() < 0.02 else value + rng.choice([0, 1, 2.5, 7, 30])
        values.append(value)
    return values


def _odd(rng: Random, values: list[float]) -> list[float]:
    return [rng.choice([math.nan, math.inf, -math.inf]) if rng.random() < 0.04 else value for value in values]


def _holey(rng: Random, values: list[float]) -> list[tuple[int, float]]:
    """Samples with some left out, sometimes many in a row, before which the series may be marked as stale."""
    result: list[tuple[int, float]] = []
    gap = 0
    for t_ms, value in zip(_times(rng), values, strict=True):
        if gap:
            gap -= 1
        elif rng.random() < 0.03:
            gap = rng.choice([1, 3, 12, 30])
            if rng.random() < 0.5:
                result.append((t_ms, STALE))
        elif rng.random() > 0.02:
            result.append((t_ms, value))
    return result


def _histogram(rng: Random, labels: Labels) -> Iterator[Series]:
    times = _times(rng)
    counts = [1000.0] * len(BOUNDS)
    rows: list[list[float]] = []
    for _ in times:
        for bucket in range(len(BOUNDS)):
            more = rng.choice([0, 0, 1, 3])
            for wider in range(bucket, len(BOUNDS)):
                counts[wider] += more
        rows.append(list(counts))
    for bucket, bound in enumerate(BOUNDS):
        points = [(t, row[bucket]) for t, row in zip(times, rows, strict=True)]
        yield {"__name__": "lat_bucket", "le": bound, **labels}, points
    yield {"__name__": "lat_count", **labels}, [(t, row[-1]) for t, row in zip(times, rows, strict=True)]
