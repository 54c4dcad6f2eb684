"""The alerts that are pending or firing now, read from the topic `alerts` from its beginning."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec
from aiokafka import AIOKafkaConsumer

from engine.console.model import AlertNow
from engine.core.messages import Transition, decode_transition
from engine.edge.broker import client_options, fetch_wait_ms
from engine.edge.settings import KafkaSettings
from engine.flow import ALERTS


class AlertsNow:
    """Follows the transitions; a context manager around its consumer. Every console has its own."""

    def __init__(self, settings: KafkaSettings, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(
            settings.topic_prefix + ALERTS.name,
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=fetch_wait_ms(settings),
            **client_options(settings),
        )
        self._active: dict[tuple[str, str], Transition] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        async for message in self._consumer:
            try:
                self.note(decode_transition(message.value))
            except msgspec.DecodeError:
                continue  # the responder sends it to the dead-letter topic

    def note(self, transition: Transition) -> None:
        """Take one transition into account."""
        key = (transition.rule, transition.fingerprint)
        if transition.state in ("pending", "firing"):
            self._active[key] = transition
        else:
            self._active.pop(key, None)

    async def now(self) -> list[AlertNow]:
        """Active alerts, oldest first."""
        ordered = sorted(self._active.values(), key=lambda one: (one.active_since_ms, one.fingerprint))
        return [
            AlertNow(
                alertname=one.alertname,
                state=one.state,
                severity=one.labels.get("severity", ""),
                labels=one.labels,
                value=one.value,
                active_since_ms=one.active_since_ms,
            )
            for one in ordered
        ]

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._consumer.stop()
