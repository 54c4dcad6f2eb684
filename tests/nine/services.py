"""How the seed's services behave: what a pod's metrics do under a load, a bad image, a leak.

A service is a queue: its pods share what clients send, and an answer takes `work_s / (1 - utilisation)`. So latency and
CPU fall when pods are added, errors when the bad image goes, memory when the pod that leaks goes, and nothing else
cures anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0)
CHANNELS = ("telegram", "discord", "slack")
_BUSIEST = 0.98  # beyond, a queue grows and an answer takes as long as clients wait
_RESIDENT_SHARE = 0.4
_LEAKED_SHARE = 0.97
_FILES_MAX = 1600


@dataclass(frozen=True)
class Pod:
    """What the cluster says of a pod: its container's image, environment and limits, and whether it is ready."""

    name: str
    service: str
    ready: bool
    image: str
    env: dict[str, str]
    cpu_limit_cores: float
    memory_limit_bytes: float


@dataclass
class Meter:
    """The counters of one pod, which begin at 0 with it."""

    requests: float = 0.0
    errors: float = 0.0
    busy_s: float = 0.0
    latency_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: float = 0.0
    buckets: dict[float, float] = field(default_factory=lambda: dict.fromkeys(BUCKETS_S, 0.0))
    active: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0.0))
    opened: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0.0))
    closed: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHANNELS, 0.0))
    counters: dict[str, float] = field(default_factory=dict)  # series -> value: what only this service counts


@dataclass
class Service:
    """A service and what is wrong with it. Faults are set here, and taken away by nobody."""

    name: str
    requests_per_s: float
    work_s: float
    bad_images: dict[str, float] = field(default_factory=dict)  # image -> share of its requests that fail
    leaking: set[str] = field(default_factory=set)  # pods
    connections: dict[str, float] = field(default_factory=dict)  # channel -> what clients want to hold open
    leak_per_s: dict[str, float] = field(default_factory=dict)  # channel -> connections that nobody ever closes
    counted: tuple[str, ...] = ()  # series that stand at 0 from a pod's beginning
    meters: dict[str, Meter] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What its metrics' names begin with."""
        return self.name.replace("-", "_")

    def advance(self, pods: Iterable[Pod], elapsed_s: float) -> None:
        """What its pods do in so many seconds."""
        ready = [pod for pod in pods if pod.ready]
        fresh = dict.fromkeys(self.counted, 0.0)
        self.meters = {pod.name: self.meters.get(pod.name) or Meter(counters=dict(fresh)) for pod in ready}
        for pod in ready:
            meter = self.meters[pod.name]
            self._work(pod, meter, self.requests_per_s / len(ready), elapsed_s)
            share = _LEAKED_SHARE if pod.name in self.leaking else _RESIDENT_SHARE
            meter.memory_bytes += (share * pod.memory_limit_bytes - meter.memory_bytes) * min(1.0, elapsed_s)
            self._connect(pod, meter, len(ready), elapsed_s)

    def count(self, series: str) -> None:
        """One more, seen by the first of its pods; by none when there is none."""
        for meter in list(self.meters.values())[:1]:
            meter.counters[series] = meter.counters.get(series, 0.0) + 1

    def _work(self, pod: Pod, meter: Meter, requests_per_s: float, elapsed_s: float) -> None:
        utilisation = min(_BUSIEST, requests_per_s * self.work_s / pod.cpu_limit_cores)
        meter.latency_s = self.work_s / (1.0 - utilisation)
        handled = requests_per_s * elapsed_s
        meter.requests += handled
        meter.errors += handled * self.bad_images.get(pod.image, 0.0)
        meter.busy_s += handled * meter.latency_s
        meter.cpu_s += utilisation * pod.cpu_limit_cores * elapsed_s
        for bound_s in BUCKETS_S:
            if meter.latency_s <= bound_s:
                meter.buckets[bound_s] += handled

    def _connect(self, pod: Pod, meter: Meter, pods: int, elapsed_s: float) -> None:
        """Clients open what they want, a tenth of it anew each second; a channel is full at the service's limit."""
        limit = float(pod.env.get("MAX_CONNECTIONS_PER_CHANNEL", _FILES_MAX)) / pods
        for channel, wanted in self.connections.items():
            had = meter.active[channel]
            leaked = self.leak_per_s.get(channel, 0.0) / pods * elapsed_s
            has = min(max(had, wanted / pods) + leaked, limit)
            churn = 0.1 * wanted / pods * elapsed_s
            meter.active[channel] = has
            meter.opened[channel] += has - had + churn
            meter.closed[channel] += churn


def page(service: Service, pod: Pod) -> Iterator[str]:
    """The pod's own page, in Prometheus's text format."""
    meter, prefix = service.meters.get(pod.name, Meter()), service.prefix
    yield f"# TYPE {prefix}_request_duration_seconds histogram"
    for bound_s, count in meter.buckets.items():
        yield f'{prefix}_request_duration_seconds_bucket{{le="{bound_s}"}} {count}'
    yield f'{prefix}_request_duration_seconds_bucket{{le="+Inf"}} {meter.requests}'
    yield f"{prefix}_request_duration_seconds_sum {meter.busy_s}"
    yield f"{prefix}_request_duration_seconds_count {meter.requests}"
    values = {f"{prefix}_requests_total": meter.requests, f"{prefix}_errors_total": meter.errors}
    values |= {"process_cpu_seconds_total": meter.cpu_s, "process_resident_memory_bytes": meter.memory_bytes}
    for name, value in values.items():
        yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
        yield f"{name} {value}"
    for series, value in meter.counters.items():
        yield f"{series} {value}"
    for channel in service.connections:
        yield f'openclaw_active_connections{{channel="{channel}"}} {meter.active[channel]}'
        yield f'openclaw_connections_opened_total{{channel="{channel}"}} {meter.opened[channel]}'
        yield f'openclaw_connections_closed_total{{channel="{channel}"}} {meter.closed[channel]}'
