"""`sentinel run`: load the rules, start the roles, stay until told to stop, end in order.

The process ends with 0 when it was told to stop, with 2 when it could not start as configured, and with 70 when one of
its parts failed while it ran: then its supervisor should start it again.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Iterable

import structlog
import uvloop
from aiokafka.errors import KafkaError

from engine.edge.broker import BrokerError
from engine.edge.database import DatabaseError
from engine.edge.embedded_postgres import EmbeddedPostgresError
from engine.edge.keys import KeyFileError
from engine.edge.kubernetes import KubernetesConfigError
from engine.edge.migrate import MigrationError
from engine.edge.node import NodeError, running
from engine.edge.reloading import Reloader
from engine.edge.runbook_settings import unknown_receivers
from engine.edge.settings import Settings
from engine.flow import RoleName
from engine.loading import load

log = structlog.get_logger(__name__)

CANNOT_START, FAILED = 2, 70
GC_THRESHOLD = (100_000, 50, 100)
"""Windows and caches hold millions of objects that live long and form no cycles: look for cycles less often than Python
does by default."""


def run(settings: Settings, roles: Iterable[RoleName]) -> int:
    """Host the roles until SIGTERM or SIGINT; the exit status."""
    gc.set_threshold(*GC_THRESHOLD)
    return uvloop.run(_run(settings, frozenset(roles)))


async def _run(settings: Settings, roles: frozenset[RoleName]) -> int:
    loaded = load(settings.rules.paths, settings.rules.keep)
    loaded.problems += unknown_receivers(loaded.runbooks, settings.notify)
    for problem in loaded.problems:
        log.error("rules.problem", problem=str(problem))
    if loaded.errors:
        log.error("node.refused", reason=f"{len(loaded.errors)} errors in the rules; `sentinel check` shows them")
        return CANNOT_START
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    started = False
    try:
        async with running(settings, roles, loaded) as node:
            started = True
            reloader = Reloader(node)
            node.spawn("reload", reloader.on_request(hangup))
            if settings.rules.watch_s:
                node.spawn("rule-files", reloader.watch())
            await node.run(stop.wait())
    except (
        BrokerError,
        DatabaseError,
        EmbeddedPostgresError,
        KafkaError,
        KeyFileError,
        KubernetesConfigError,
        MigrationError,
        NodeError,
    ) as error:
        log.error("node.failed" if started else "node.refused", reason=str(error))
        return FAILED if started else CANNOT_START
    log.info("node.stopped")
    return 0
