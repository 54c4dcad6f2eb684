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
clock: dict[str, tuple[float, float]] = {}


def look(_: dict) -> None:
    """Read the clocks at the first and the last message: joining the group and waiting for more are not counted."""
    now = (time.process_time(), time.time())
    clock.setdefault("begun", now)
    clock["ended"] = now


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
    lines = app.dataframe(
        app.topic(
            topic,
            value_deserializer="json",
            key_deserializer="bytes",
            timestamp_extractor=lambda line, *_: line["ts"],
        )
    )
    lines.update(look)
    violations = lines[lines["event"] == "policy_violation"]
    counts = violations.sliding_window(timedelta(seconds=60), grace_ms=1000).count().current()
    counts = counts[counts["value"] > 10]
    counts.update(note, metadata=True)
    app.run(count=count, timeout=10)

cpu_s, wall_s = (end - begin for begin, end in zip(clock["begun"], clock["ended"], strict=True))
print(json.dumps({"lines": count, "cpu_s": cpu_s, "wall_s": wall_s, "alerts": len(over)}))
