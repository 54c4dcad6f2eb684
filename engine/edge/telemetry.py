"""The process's own metrics: what Sentinel says about itself on /metrics.

One `Telemetry` per process, handed to the roles it hosts; each metric is a prometheus_client object that callers use
directly: `telemetry.drops.labels("receiver", "late").inc(3)`. Nothing is dropped anywhere without its counter here.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.aiohttp import make_aiohttp_handler

_EVALUATION_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_DELAY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """Every metric of the process in its own registry. Label order is that of the lists below."""

    def __init__(self, *, process_metrics: bool = True) -> None:
        self.registry = registry = CollectorRegistry()
        if process_metrics:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        self.lag = Gauge(
            "sentinel_lag_messages",
            "Messages on the topic that the role has not read yet.",
            ["role", "topic", "partition"],
            registry=registry,
        )
        self.watermark_delay = Gauge(
            "sentinel_watermark_delay_seconds",
            "How far the role's watermark of a source is behind the clock.",
            ["role", "source"],
            registry=registry,
        )
        self.processed = Counter(
            "sentinel_processed_total", "Messages a role has worked through.", ["role", "topic"], registry=registry
        )
        self.drops = Counter(
            "sentinel_drops_total",
            "Events left out, by the stage that left them out and why.",
            ["stage", "reason"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "sentinel_dead_letters_total",
            "Messages that could not be used and went to the dead-letter topic.",
            ["topic", "reason"],
            registry=registry,
        )
        self.rule_evaluation = Histogram(
            "sentinel_rule_evaluation_seconds",
            "Time to evaluate a rule once.",
            ["rule"],
            buckets=_EVALUATION_BUCKETS_S,
            registry=registry,
        )
        self.reload_ok = Gauge(
            "sentinel_rules_last_reload_successful",
            "Whether the rules could be loaded when they were last looked at: 1 or 0.",
            registry=registry,
        )
        self.reload_ok.set(1)
        self.reload_time = Gauge(
            "sentinel_rules_last_reload_success_timestamp_seconds",
            "When rules were last loaded.",
            registry=registry,
        )
        self.transitions = Counter(
            "sentinel_transitions_total",
            "Alert state changes, by rule and new state.",
            ["rule", "state"],
            registry=registry,
        )
        self.commands = Counter(
            "sentinel_commands_total",
            "Commands by action and what became of them.",
            ["action", "outcome"],
            registry=registry,
        )
        self.notifications = Counter(
            "sentinel_notifications_total",
            "Attempts to tell a receiver, by what came of them: delivered, failed, given_up.",
            ["receiver", "outcome"],
            registry=registry,
        )
        self.notifications_waiting = Gauge(
            "sentinel_notifications_waiting",
            "Notices that a receiver was not told of yet.",
            ["receiver"],
            registry=registry,
        )
        self.sink_requests = Counter(
            "sentinel_sink_requests_total",
            "Requests to other systems by what they answered: a status, or `unreachable`.",
            ["sink", "target", "code"],
            registry=registry,
        )
        self.sink_sent = Counter(
            "sentinel_sink_sent_total",
            "Alerts (repetitions included) and samples that another system took.",
            ["sink", "target"],
            registry=registry,
        )
        self.reaction = Histogram(
            "sentinel_reaction_seconds",
            "From an event's arrival at a connector to the stage named.",
            ["stage"],
            buckets=_DELAY_BUCKETS_S,
            registry=registry,
        )

    def routes(self) -> list[web.RouteDef]:
        """`GET /metrics`, in the text or OpenMetrics format, whichever is asked for."""
        return [web.get("/metrics", make_aiohttp_handler(self.registry))]
