"""The count of `benchmarks.windows` as a Quix Streams application. Run by that benchmark with a Python that has it.

    python quixstreams_windows.py BROKER TOPIC COUNT

One message a line, keyed by user, with the line's own time; sliding windows of a minute, without changelog topics,
which is the faster way. Prints {"lines", "cpu_s", "wall_s", "alerts"}.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta

from quixstreams import Application

broker, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
over: set[str] = set()
begun: list[tuple[float, float]] = []


def begin(_: dict) -> None:
    """Start the clock with the first message: joining the group is not counted."""
    if not begun:
        begun.append((time.process_time(), time.time()))


def note(_: dict, key: bytes, *__: object) -> None:
    """A user with more than ten violations."""
    over.add(key.decode())


with tempfile.TemporaryDirectory() as state:
    app = Application(
        broker_address=broker,
        consumer_group=f"quix-{topic}",
        auto_offset_reset="earliest",
        state_dir=state,
        use_changelog_topics=False,
        loglevel="ERROR",
    )
    lines = app.dataframe(app.topic(topic, value_deserializer="json", key_deserializer="bytes"))
    lines.update(begin)
    violations = lines[lines["event"] == "policy_violation"]
    counts = violations.sliding_window(timedelta(seconds=60), grace_ms=1000).count().current()
    counts = counts[counts["value"] > 10]
    counts.update(note, metadata=True)
    app.run(count=count, timeout=60)

cpu_s, wall_s = time.process_time() - begun[0][0], time.time() - begun[0][1]
print(json.dumps({"lines": count, "cpu_s": cpu_s, "wall_s": wall_s, "alerts": len(over)}))
