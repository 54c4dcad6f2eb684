"""Counting per user in a sliding minute: our core and our whole flow beside plain Python and other stream processors.

    python -m benchmarks.windows [--lines 1000000] [--only core,flow,plain,bytewax,quixstreams]

JSON log lines of 20,000 users, a tenth of them policy violations, 10,000 lines a second of event time. Wanted: the
users with more than ten violations in sixty seconds. Ours is the LogQL rule; plain Python is a dict of deques. Lines
are per second of CPU time of the process that does the work, and per second of wall clock where a broker takes part.
Rivals that are slow get fewer lines: the rate does not depend on it.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import violations as data
from engine import logql
from engine.core.messages import LogBatch, RuleInput, decode_rule_input, encode
from engine.core.rules import parse_rules
from engine.core.step import Shard

RULES = """
groups:
  - name: bench
    interval: 15s
    rules:
      - alert: ManyViolations
        expr: sum by (user) (count_over_time({job="shop"} |= "policy_violation" | json | event="policy_violation" [60s])) > 10
        labels: {severity: warning}
"""
SPAN_MS, LIMIT = 60_000, 10
CHUNK_BATCHES = 50


@dataclass(frozen=True)
class Result:
    """What one way of doing it came to; `wall_rate` is 0 where there is nothing but the process itself."""

    name: str
    lines: int
    cpu_rate: float
    wall_rate: float
    alerts: int | None
    remark: str = ""


def chunks(count: int) -> Iterator[list[LogBatch]]:
    """Batches some at a time, so that making them is not measured and they do not fill the memory."""
    batches = data.batches(count)
    while chunk := list(islice(batches, CHUNK_BATCHES)):
        yield chunk


def shard() -> Shard:
    """Our core with the rule."""
    groups, problems = parse_rules(RULES, "bench.yml", logql.compile)
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    return Shard(groups)


def core(count: int, *, decoding: bool) -> Result:
    """`Shard.step` on batches, decoded already or not."""
    own, spent, alerts = shard(), 0.0, 0
    for chunk in chunks(count):
        inputs = [RuleInput(0, batch) for batch in chunk]
        wire = [encode(message) for message in inputs]
        started = time.process_time()
        if decoding:
            inputs = [decode_rule_input(body) for body in wire]
        for message in inputs:
            alerts += sum(one.state == "firing" for one in own.step(message).transitions)
        spent += time.process_time() - started
    return Result(f"our core{', with decoding' if decoding else ''}", count, count / spent, 0, alerts)


class Violation(msgspec.Struct):
    """What plain Python reads of a line."""

    ts: int
    event: str
    user: str


def plain(count: int, *, prefilter: bool) -> Result:
    """A dict of deques, with msgspec; `prefilter` looks for the word before it decodes a line."""
    decode = msgspec.json.Decoder(Violation).decode
    recent: defaultdict[str, deque[int]] = defaultdict(deque)
    spent, alerts = 0.0, 0
    firing: set[str] = set()
    for chunk in chunks(count):
        texts = [entry.line for batch in chunk for stream in batch.streams for entry in stream.entries]
        started = time.process_time()
        for text in texts:
            if prefilter and "policy_violation" not in text:
                continue
            line = decode(text)
            if line.event != "policy_violation":
                continue
            times = recent[line.user]
            times.append(line.ts)
            while times[0] <= line.ts - SPAN_MS:
                times.popleft()
            if len(times) > LIMIT:
                if line.user not in firing:
                    firing.add(line.user)
                    alerts += 1
            elif line.user in firing:
                firing.remove(line.user)
        spent += time.process_time() - started
    how = "plain Python, looking for the word first" if prefilter else "plain Python"
    return Result(how, count, count / spent, 0, alerts, "no lateness, no order, no resolving by silence, no evidence")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=1_000_000)
    chosen = options.parse_args()
    ways: list[Callable[[], Result]] = [
        lambda: core(chosen.lines, decoding=False),
        lambda: core(chosen.lines, decoding=True),
        lambda: plain(chosen.lines, prefilter=False),
        lambda: plain(chosen.lines, prefilter=True),
    ]
    table = Table(title="users with more than 10 violations in 60 s")
    for column in ("way", "lines", "lines/s of CPU", "lines/s", "alerts", "remark"):
        table.add_column(column)
    for way in ways:
        one = way()
        wall = f"{one.wall_rate:,.0f}" if one.wall_rate else ""
        table.add_row(one.name, f"{one.lines:,}", f"{one.cpu_rate:,.0f}", wall, str(one.alerts), one.remark)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
