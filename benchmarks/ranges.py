"""What a range function over a long range costs when one sample per series is new: by digests, and by looking again.

    python -m benchmarks.ranges [--series N] [--samples N]

Counters of whole numbers that are reset now and then, each sampled at its own times within the second, an hour of
them; the rival is the same function with the digests taken away (`engine/core/digests.py`). Both must give the same.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from engine.core.labels import encode
from engine.core.window import MetricWindow
from engine.promql import ranges
from engine.promql.runs import Kernel

EVERY_MS, ROUNDS = 1_000, 20
KERNELS: dict[str, Kernel] = {
    "rate": ranges.rate,
    "changes": ranges.changes,
    "resets": ranges.resets,
    "sum_over_time": ranges.sum_over_time,
    "avg_over_time": ranges.avg_over_time,
    "min_over_time": ranges.min_over_time,
    "max_over_time": ranges.max_over_time,
    "count_over_time": ranges.count_over_time,
    "stddev_over_time": ranges.stddev_over_time,
    "deriv": ranges.deriv,
}


class Feed:
    """A window of so many series, given a sample of each at every turn."""

    def __init__(self, series: int) -> None:
        self.window = MetricWindow()
        self.draw = np.random.default_rng(1)
        self.rows = self.window.rows([encode({"__name__": "x_total", "i": str(i)}) for i in range(series)])
        self.offsets_ms = self.draw.integers(0, EVERY_MS, series)
        self.values = np.zeros(series)
        self.turn = 0

    def step(self) -> int:
        """One more sample of nearly every series; the time after it."""
        there = self.draw.random(len(self.rows)) > 0.01
        self.values += self.draw.integers(0, 9, len(self.rows))
        self.values[self.draw.random(len(self.rows)) < 0.002] = 0.0
        times = self.turn * EVERY_MS + self.offsets_ms
        self.window.append_rows(self.rows[there], times[there], self.values[there])
        self.turn += 1
        return self.turn * EVERY_MS


def measure(feed: Feed, kernel: Kernel, range_ms: int) -> tuple[float, float]:
    """Mean milliseconds of an evaluation, with digests and without."""
    spent_s = [0.0, 0.0]
    for turn in range(ROUNDS + 1):
        at_ms = feed.step()
        data = feed.window.range(at_ms - range_ms, at_ms)
        results = []
        for way, seen in enumerate((data, replace(data, digests=None))):
            started = time.perf_counter()
            results.append(kernel(seen)[0])
            spent_s[way] += (time.perf_counter() - started) * (turn > 0)  # first everything is new
        assert np.array_equal(results[0], results[1], equal_nan=True)
    return spent_s[0] / ROUNDS * 1000, spent_s[1] / ROUNDS * 1000


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--samples", type=int, default=3_600, help="in the range of each series")
    chosen = parser.parse_args()
    feed = Feed(chosen.series)
    for _ in range(chosen.samples):
        feed.step()
    table = Table("function", "digests ms", "rescan ms", "times", title=f"{chosen.series} x {chosen.samples} samples")
    for name, kernel in KERNELS.items():
        own_ms, rescan_ms = measure(feed, kernel, chosen.samples * EVERY_MS)
        table.add_row(name, f"{own_ms:.2f}", f"{rescan_ms:.2f}", f"{rescan_ms / own_ms:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
