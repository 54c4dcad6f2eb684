"""The load of the metrics benchmarks: a fleet of services as a scraping Prometheus sees it, and the ways to send it.

Every pod has 200 series (a histogram, a counter by status, gauges) and a scrape phase of its own. Series stand in
scrape order. The same numbers go to us and to Prometheus: as batches, or as remote-write requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import cramjam
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from connectors import remote_write
from engine.core import labels as label_sets
from engine.core.messages import MetricBatch, pack

JOBS = ("bridge", "cart", "checkout", "gateway", "ledger", "mailer", "orders", "search", "stock", "users")
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf")
CODES = ("200", "404", "500", "503")
HANDLERS, POOLS, SERIES_A_POD = 10, 39, 200

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "Prometheus/2.42.0",
}
_SAMPLE = np.dtype([("head", "<u2"), ("value_tag", "u1"), ("value", "<f8"), ("time_tag", "u1"), ("time", "u1", 6)])
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RULES = {
    "RequestRate": "sum by (job) (rate(http_requests_total[5m])) > 1e6",
    "NoRequests": "sum by (job, handler) (rate(http_requests_total[5m])) < 0.001",
    "SlowP99": "histogram_quantile(0.99, sum by (job, handler, le) (rate(http_request_duration_seconds_bucket[5m])))"
    " > 9.9",
    "SlowPodP90": "histogram_quantile(0.9, sum by (pod, le) (rate(http_request_duration_seconds_bucket[5m]))) > 9.9",
    "Errors": 'sum by (job) (rate(http_requests_total{code=~"5.."}[5m])) / sum by (job) '
    "(rate(http_requests_total[5m])) > 0.9",
    "HandlerErrors": 'sum by (job, handler) (rate(http_requests_total{code=~"5.."}[5m])) / sum by (job, handler) '
    "(rate(http_requests_total[5m])) > 0.9",
    "Memory": "process_resident_memory_bytes > 1.9e9",
    "PoolFull": "db_pool_connections > 99.5",
}
WAIT = {"Memory": "5m", "PoolFull": "2m"}
"""Eight ordinary rules: sums of rates, quantiles, error ratios, thresholds with `for`."""


def rule_file(interval: str) -> str:
    """The rules as a rule file in one group."""
    rules = "".join(
        f"\n  - alert: {name}\n    expr: {expr}" + (f"\n    for: {WAIT[name]}" if name in WAIT else "")
        for name, expr in RULES.items()
    )
    return f"groups:\n- name: bench\n  interval: {interval}\n  rules:{rules}\n"


def _pod_labels(pod: int) -> Iterator[dict[str, str]]:
    job = JOBS[pod % len(JOBS)]
    common = {
        "job": job,
        "instance": f"10.0.{pod // 250}.{pod % 250}:8080",
        "pod": f"{job}-6b7d9c{pod:05x}",
        "namespace": "aureus",
    }
    handlers = [f"/api/v1/{job}/resource{number}" for number in range(HANDLERS)]
    for handler in handlers:
        for bound in BOUNDS:
            yield {"__name__": "http_request_duration_seconds_bucket", **common, "handler": handler, "le": bound}
    for handler in handlers:
        for code in CODES:
            yield {"__name__": "http_requests_total", **common, "handler": handler, "method": "GET", "code": code}
    for number in range(POOLS):
        yield {"__name__": "db_pool_connections", **common, "pool": f"pool-{number}"}
    yield {"__name__": "process_resident_memory_bytes", **common}


class Fleet:
    """So many series scraped every `interval_ms`, the first time at `start_ms` and a phase by pod."""

    def __init__(self, series: int, start_ms: int, interval_ms: int) -> None:
        pods = max(1, series // SERIES_A_POD)
        self.interval_ms = interval_ms
        self.start_ms = start_ms
        # Odd: no sample lies on the edge of a range, where Prometheus 2 and 3 differ.
        phases = np.sort(np.random.default_rng(7).integers(0, interval_ms // 2, pods) * 2 + 1)
        self.phase_ms: Integers = np.repeat(phases, SERIES_A_POD).astype(np.int64)
        self.labels = [labels for pod in range(pods) for labels in _pod_labels(pod)]
        draw = np.random.default_rng(8)
        self._level = draw.uniform(0, 1e6, len(self.labels)).round()
        self._step = np.tile(_steps(), pods) * np.repeat(draw.integers(1, 9, pods), SERIES_A_POD)
        self._swing = np.tile(_swings(), pods)

    def __len__(self) -> int:
        return len(self.labels)

    def times_ms(self, scrape: int) -> Integers:
        """When each series was sampled in a scrape (counted from 0)."""
        return self.phase_ms + self.start_ms + scrape * self.interval_ms

    def values(self, scrape: int) -> Floats:
        """What each series had then: counters rise in whole numbers, gauges swing."""
        swing = np.random.default_rng(scrape).uniform(0, 1, len(self)) * self._swing
        return np.where(self._swing > 0, swing, self._level + self._step * scrape)

    @cached_property
    def keys(self) -> list[Raw]:
        """The canonical label bytes."""
        return [Raw(label_sets.encode(labels)) for labels in self.labels]

    @cached_property
    def wire(self) -> list[bytes]:
        """The labels as protobuf fields."""
        label, series = remote_write.MESSAGES["Label"], remote_write.MESSAGES["TimeSeries"]
        return [
            series(labels=[label(name=n, value=v) for n, v in sorted(labels.items())]).SerializeToString()
            for labels in self.labels
        ]

    def batches(self, scrape: int, watermark_ms: int, epoch: int, events: int = 2_000) -> Iterator[MetricBatch]:
        """One scrape as batches of a source, numbered after those of the scrape before in the same epoch."""
        times, values = self.times_ms(scrape), self.values(scrape)
        many = -(-len(self) // events)
        for part in range(many):
            cut = slice(part * events, (part + 1) * events)
            head = ("fleet", epoch, scrape * many + part + 1, watermark_ms, self.start_ms)
            yield MetricBatch(*head, self.keys[cut], times[cut].tolist(), pack(values[cut]))

    def columns(self, scrapes: range) -> tuple[Integers, Floats]:
        """Times and values of all series (rows) in those scrapes (columns)."""
        times = np.stack([self.times_ms(scrape) for scrape in scrapes], axis=1)
        return times, np.stack([self.values(scrape) for scrape in scrapes], axis=1)

    def requests(self, scrapes: range, samples: int) -> Iterator[bytes]:
        """Remote-write bodies of about so many samples that hold those scrapes, series after series."""
        times, values = self.columns(scrapes)
        size = max(1, samples // len(scrapes))
        for start in range(0, len(self), size):
            cut = slice(start, start + size)
            yield write_request(self.wire[cut], times[cut], values[cut])


def write_request(wire: list[bytes], times: Integers, values: Floats) -> bytes:
    """The compressed body of a remote-write request: `times[i]`, `values[i]` are the samples of `wire[i]`."""
    samples = np.zeros(times.shape, _SAMPLE)
    samples["head"], samples["value_tag"], samples["time_tag"] = 0x1012, 0x09, 0x10
    samples["value"] = values
    for byte in range(6):
        samples["time"][..., byte] = (times >> (7 * byte)) & 0x7F | (0x80 if byte < 5 else 0)
    tails, size = samples.tobytes(), times.shape[1] * _SAMPLE.itemsize
    parts: list[bytes] = []
    for row, labels in enumerate(wire):
        parts += (b"\x0a", _varint(len(labels) + size), labels, tails[row * size : (row + 1) * size])
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _steps() -> Floats:
    """What the series of a pod gain from scrape to scrape: buckets are cumulative, gauges gain nothing."""
    buckets = np.tile(np.arange(1, len(BOUNDS) + 1), HANDLERS)
    counters = np.tile([90, 5, 1, 1], HANDLERS)
    return np.concatenate([buckets, counters, np.zeros(POOLS + 1)]).astype(np.float64)


def _swings() -> Floats:
    """How far the gauges of a pod swing; 0 for counters."""
    counters = HANDLERS * (len(BOUNDS) + len(CODES))
    return np.concatenate([np.zeros(counters), np.full(POOLS, 100.0), [2e9]])
