"""The router role: `core.router` between `metrics`, `logs` and `rule-inputs`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from engine.core.messages import Batch, MetricBatch, decode_batch, encode
from engine.core.router import Router
from engine.core.rules import RuleGroup
from engine.edge.faust_app import RoleApp, consume, decoded
from engine.flow import LOGS, METRICS, RULE_INPUTS


def run_router(role: RoleApp, groups: Iterable[RuleGroup], shards: int) -> Callable[[Iterable[RuleGroup]], None]:
    """Route every batch to the shards that want it; call what is returned with other groups to route for those."""
    router = Router(groups, shards)
    unwanted = role.telemetry.drops.labels("router", "no_rule_wants_it")

    async def handle(event: Any) -> None:
        batch: Batch = decoded(decode_batch, event.value)
        messages = router.route(batch)
        await asyncio.gather(
            *(role.send(RULE_INPUTS.name, str(message.shard).encode(), encode(message)) for message in messages)
        )
        kept = max((_size(message.batch) for message in messages), default=0)
        unwanted.inc(max(0, _size(batch) - kept))

    def reload(fresh: Iterable[RuleGroup]) -> None:
        nonlocal router
        router = Router(fresh, shards)

    consume(role, [METRICS, LOGS], handle)
    return reload


def _size(batch: Batch) -> int:
    return len(batch.series) if isinstance(batch, MetricBatch) else sum(len(s.entries) for s in batch.streams)
