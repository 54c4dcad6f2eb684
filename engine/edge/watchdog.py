"""The watchdog: a role that has work and makes no progress ends its process, so that its supervisor restarts it.

Consumers have been reported to stop for ever after a broker outage; nothing but lag without progress tells such a
one from an idle one.
"""

from __future__ import annotations

from msgspec import Struct

from engine.edge.faust_app import RoleApp
from engine.edge.node import Node

LOOK_EVERY_S = 2.0
PATIENCE_S = 120.0


class Progress(Struct):
    """What the watchdog remembers: how much was done, and since when that has not changed while work was waiting."""

    done: int = -1
    stuck_since_s: float | None = None


def look(progress: Progress, done: int, lag: int, now_s: float, *, waits: bool = False) -> float:
    """Note an observation; for how many seconds there has been work and no progress.

    A role that `waits` for the database is not stuck: starting the process again would not bring that back.
    """
    if done != progress.done or lag == 0 or waits:
        progress.done = done
        progress.stuck_since_s = None
        return 0.0
    if progress.stuck_since_s is None:
        progress.stuck_since_s = now_s
    return now_s - progress.stuck_since_s


async def watch(node: Node, role: RoleApp) -> None:
    """Watch a role, keep its lag metric, beat its heart; end the process when it is stuck or has crashed."""
    progress = Progress()
    name = f"role {role.role}"
    node.health.heartbeats.register(name, LOOK_EVERY_S * 5)
    while True:
        await node.clock.sleep(LOOK_EVERY_S)
        await role.ask_for_ends()
        lag = role.lag()
        for (topic, partition), messages in lag.items():
            node.telemetry.lag.labels(role.role, topic.removeprefix(role.prefix), str(partition)).set(messages)
        waits = node.database is not None and node.database.is_away
        stuck_s = look(progress, role.done, sum(lag.values()), node.clock.now_ms() / 1000, waits=waits)
        if role.app.crashed:
            node.fail(f"{role.role}: the Faust application has crashed")
        elif stuck_s > PATIENCE_S:
            node.fail(f"{role.role}: {sum(lag.values())} messages wait and none was worked through for {stuck_s:.0f} s")
        node.health.heartbeats.beat(name)
