"""How the role `notifier` is put together: deliveries, the endpoints for answers, and what it says of itself."""

from __future__ import annotations

from functools import partial

import structlog

from engine.edge.health import CheckResult
from engine.edge.node import Node
from engine.edge.notify_hooks import Hooks
from engine.edge.notifying import Notifying
from engine.notifiers import Environment, load_notifiers

log = structlog.get_logger(__name__)

TICK_S, LOOK_S = 0.2, 5
NOBODY = "nobody is told of incidents: nothing is configured under `notify`"


async def start_notifier(node: Node) -> None:
    """Notices in the database -> people, and their answers back."""
    settings = node.settings.notify
    env = Environment(settings, node.clock.now_ms)
    hooks = Hooks(node.need_database(), env)
    node.stack.push_async_callback(hooks.close)
    node.routes += hooks.routes()
    if not settings.is_configured:
        log.warning("notify.nobody", reason=NOBODY)
        node.health.ready["notifier"] = _nobody
        return
    notifying = Notifying(node.need_database(), env, load_notifiers(), node.telemetry, node.settings.http.external_url)
    node.stack.push_async_callback(notifying.close)
    node.parts["notifier"] = notifying
    node.health.ready["notifier"] = partial(_reaches_people, notifying)
    node.spawn("notifier", _run(node, notifying))
    node.spawn("notifier-look", _look(node, notifying))


async def _run(node: Node, notifying: Notifying) -> None:
    while True:
        await notifying.turn()
        await node.clock.sleep(TICK_S)


async def _look(node: Node, notifying: Notifying) -> None:
    while True:
        await notifying.troubles()
        await node.clock.sleep(LOOK_S)


async def _nobody() -> CheckResult:
    return CheckResult(True, NOBODY)


async def _reaches_people(notifying: Notifying) -> CheckResult:
    """An outage of a notifier is a warning: it must not take a process out of service that still does its work."""
    found = await notifying.troubles()
    return CheckResult(True, "; ".join(["warning", *map(str, found)]) if found else "everybody was told")
