"""The router role: `core.router` between `metrics`, `logs` and `rule-inputs`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from engine.core.messages import Batch, decode_batch, encode_rule_input
from engine.core.router import Router
from engine.core.rules import RuleGroup
from engine.edge.faust_app import PoisonError, RoleApp, consume, decoded
from engine.flow import LOGS, METRICS, RULE_INPUTS


def run_router(role: RoleApp, groups: Iterable[RuleGroup], shards: int) -> Callable[[Iterable[RuleGroup]], None]:
    """Route every batch to the shards that want it; call what is returned with other groups to route for those."""
    router = Router(groups, shards)
    unwanted = role.telemetry.drops.labels("router", "no_rule_wants_it")

    async def handle(event: Any) -> None:
        batch: Batch = decoded(decode_batch, event.value)
        before = router.unwanted
        try:
            messages = router.route(batch)
        except ValueError as error:
            raise PoisonError(f"cannot be routed: {error}") from error
        unwanted.inc(router.unwanted - before)
        await asyncio.gather(
            *(
                role.send(
                    RULE_INPUTS.name,
                    str(message.shard).encode(),
                    encode_rule_input(message, batch, event.value),
                )
                for message in messages
            )
        )

    def reload(fresh: Iterable[RuleGroup]) -> None:
        nonlocal router
        router = Router(fresh, shards)

    consume(role, [METRICS, LOGS], handle)
    return reload
