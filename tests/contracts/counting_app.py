"""A small Faust worker for `test_faust`: counts messages by key in a table, and says on standard output how far it is.

Arguments: broker URL, topic, folder for its files, `declare` or `-` (whether topics may be created by CreateTopics).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import faust

url, topic_name, folder, declare = sys.argv[1:]
app = faust.App(
    f"count-{topic_name}",
    broker=f"kafka://{url}",
    datadir=folder,
    topic_allow_declare=declare == "declare",
    topic_partitions=4,
    topic_replication_factor=1,
    topic_disable_leader=True,
    stream_wait_empty=False,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    broker_commit_interval=0.1,
    web_enabled=False,
)
source = app.topic(topic_name, key_serializer="raw", value_serializer="raw", partitions=4)
counts = app.Table("counts", key_type=str, value_type=int, default=int, partitions=4)
seen = 0


async def count(stream: faust.StreamT[bytes]) -> None:
    """Count each message under its key."""
    global seen
    async for event in stream.events():
        counts[event.key.decode()] += 1
        seen += 1


async def tell() -> None:
    """One JSON line: messages seen by this process, and the sum of the table."""
    print(json.dumps({"seen": seen, "counted": sum(counts.values())}), file=sys.__stdout__, flush=True)


def register(decorate: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Apply one of Faust's decorators, which have no types."""
    decorate(function)


register(app.agent(source), count)
register(app.timer(0.2), tell)
faust.Worker(app, loglevel="WARNING", quiet=True).execute_from_commandline()
