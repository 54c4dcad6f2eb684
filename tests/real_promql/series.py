"""Seeded data for comparisons: gauges, counters and classic histograms with what goes wrong in real ones.

Samples are taken every 15 s, with gaps, staleness markers, NaN and infinities, and counters that are reset. For the
newest Prometheus, half of the samples lie exactly on the times that are asked for, some counters begin at 0, some
values are the largest and smallest, and labels hold what they may.

For Prometheus 2 no sample time is a multiple of 5 s, as evaluation times, ranges and offsets are: so it makes no
difference that its ranges are closed on the left. Counters stay far from zero, near which it extrapolates differently,
values have sums that need no compensation, and no label has a line break, which its `.` does not match.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from engine.core.labels import Labels
from engine.core.window import STALE

START_MS = 1_700_000_040_000
"""A multiple of a minute."""
EVERY_MS, SAMPLES = 15_000, 120
BOUNDS = ("0.1", "0.5", "1", "2.5", "+Inf")

Series = tuple[Labels, list[tuple[int, float]]]


def generate(seed: int, *, newest: bool) -> list[Series]:
    """Some seventy series over half an hour."""
    data = _Data(Random(seed), newest)
    result: list[Series] = []
    for job in "ab":
        for instance in "012":
            target = {"job": job, "instance": instance}
            result.append(({"__name__": "g", **target}, data.holey(data.gauge())))
            result.append(({"__name__": "c_total", **target}, data.holey(data.counter())))
        result.append(({"__name__": "per_job", "job": job}, data.holey(data.gauge())))
        for zone in ("x", "y"):
            result.append(({"__name__": "h", "job": job, "zone": zone}, data.holey(data.odd(data.gauge()))))
            result += data.histogram({"job": job, "zone": zone})
        result.append(({"__name__": "d_total", "job": job}, data.holey(data.counter())))
    for method in ("GET", "get", "Ä", "a b", "\U0001f600", *(["a\nb"] if newest else [])):
        result.append(({"__name__": "odd", "job": "a", "method": method}, data.holey(data.special())))
    if newest:
        for zone in ("x", "y"):
            utf8 = {"__name__": "m.ü", "job": "b", "a.b": "1", "zone": zone}
            result.append((utf8, data.holey(data.gauge())))
    result.append(({"__name__": "ns:rec", "job": "b", "zone": "x"}, data.holey(data.gauge())))
    result.append(({"__name__": "one"}, list(zip(data.times(), data.gauge(), strict=True))))
    for number, le in enumerate(("0.5", "1", "1.0", "5", "x", None, "1e1")):  # neither monotonic nor with +Inf
        labels = {"__name__": "bad_bucket", "job": "b"} | ({"le": le} if le else {})
        result.append((labels, data.holey([float((i * 7 + number * 5) % 90) for i in range(SAMPLES)])))
    for job in "ab":  # of which a long range holds enough samples for digests (`engine/core/digests.py`)
        result.append(
            ({"__name__": "dense_total", "job": job}, list(zip(data.dense(), data.dense_counter(), strict=True)))
        )
    info = {"__name__": "target_info", "job": "a", "instance": "1", "version": "1.2" * 99, "zone": "x"}
    result.append((info, [(t, 1.0) for t in data.times()]))
    return result


@dataclass
class _Data:
    rng: Random
    newest: bool

    def times(self) -> list[int]:
        exact = self.newest and self.rng.random() < 0.5
        return [START_MS + i * EVERY_MS + (0 if exact else self.rng.randrange(100, 4900)) for i in range(SAMPLES)]

    def dense(self) -> list[int]:
        """Three times as often."""
        return [START_MS + i * EVERY_MS // 3 + self.rng.randrange(100, 4900) for i in range(3 * SAMPLES)]

    def dense_counter(self) -> list[float]:
        """A counter, of whole numbers in one of two cases."""
        unit = self.rng.choice([1.0, 1.25])
        return [50_000 + unit * (i * 7 % 401 + self.rng.randrange(5)) for i in range(3 * SAMPLES)]

    def gauge(self) -> list[float]:
        value = self.rng.randrange(-40, 41) * 1.25
        values = []
        for _ in range(SAMPLES):
            if self.rng.random() < 0.8:
                value += self.rng.randrange(-12, 13) * 0.75 + self.rng.randrange(64) / 4096
            values.append(value)
        return values

    def counter(self) -> list[float]:
        start = 20_000.0 if not self.newest or self.rng.random() < 0.5 else 0.0
        value = start * 2.5
        values = []
        for _ in range(SAMPLES):
            grown = value + self.rng.choice([0, 1, 2.5, 7, 30])
            value = start + self.rng.randrange(99) if self.rng.random() < 0.02 else grown
            values.append(value)
        return values

    def odd(self, values: list[float]) -> list[float]:
        strange = [math.nan, math.inf, -math.inf]
        return [self.rng.choice(strange) if self.rng.random() < 0.04 else value for value in values]

    def special(self) -> list[float]:
        """Few different values, the corners of floats among them."""
        usual = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5]
        corners = [math.nan, math.inf, *([1e300, 1e-300] if self.newest else [])]
        return [self.rng.choice([*usual, *usual, *corners]) for _ in range(SAMPLES)]

    def holey(self, values: list[float]) -> list[tuple[int, float]]:
        """Samples with some left out, sometimes many in a row, before which the series may be marked as stale."""
        result: list[tuple[int, float]] = []
        gap = 0
        for t_ms, value in zip(self.times(), values, strict=True):
            if gap:
                gap -= 1
            elif self.rng.random() < 0.03:
                gap = self.rng.choice([1, 3, 12, 30])
                if self.rng.random() < 0.5:
                    result.append((t_ms, STALE))
            elif self.rng.random() > 0.02:
                result.append((t_ms, value))
        return result

    def histogram(self, labels: Labels) -> Iterator[Series]:
        times = self.times()
        counts = [1000.0] * len(BOUNDS)
        rows: list[list[float]] = []
        for _ in times:
            for bucket in range(len(BOUNDS)):
                more = self.rng.choice([0, 0, 1, 3])
                for wider in range(bucket, len(BOUNDS)):
                    counts[wider] += more
            rows.append(list(counts))
        for bucket, bound in enumerate(BOUNDS):
            points = [(t, row[bucket]) for t, row in zip(times, rows, strict=True)]
            yield {"__name__": "lat_bucket", "le": bound, **labels}, points
        yield {"__name__": "lat_count", **labels}, [(t, row[-1]) for t, row in zip(times, rows, strict=True)]
