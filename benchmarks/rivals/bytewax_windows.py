"""The count of `benchmarks.windows` as a bytewax dataflow. Run by that benchmark with the Python that has bytewax.

    python bytewax_windows.py LINES_FILE

Sliding windows of a minute, a new one every ten seconds, in event time. Prints {"lines", "cpu_s", "alerts"}.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
import bytewax.operators.windowing as windows
import orjson
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower
from bytewax.testing import TestingSink, TestingSource, run_main

with open(sys.argv[1], encoding="utf-8") as file:
    lines = file.read().splitlines()


def happened(line: dict) -> datetime:
    """The event time of a line."""
    return datetime.fromtimestamp(line["ts"] / 1000, UTC)


found: list[tuple[str, tuple[int, int]]] = []
flow = Dataflow("violations")
read = op.map("decode", op.input("lines", flow, TestingSource(lines, batch_size=1000)), orjson.loads)
wanted = op.filter("violations", read, lambda line: line["event"] == "policy_violation")
clock = EventClock(happened, wait_for_system_duration=timedelta(0))
windower = SlidingWindower(timedelta(seconds=60), timedelta(seconds=10), datetime(2020, 1, 1, tzinfo=UTC))
counted = windows.count_window("count", wanted, clock, windower, lambda line: line["user"])
over = op.filter("over", counted.down, lambda item: item[1][1] > 10)
op.output("out", over, TestingSink(found))

started = time.process_time()
run_main(flow)
print(json.dumps({"lines": len(lines), "cpu_s": time.process_time() - started, "alerts": len({u for u, _ in found})}))
