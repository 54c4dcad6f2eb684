"""Counting per user in a sliding minute: our core and our whole flow beside plain Python and other stream processors.

    python -m benchmarks.windows [--lines 1000000] [--only core flow plain bytewax quixstreams]

JSON log lines of 20,000 users, a tenth of them policy violations, 10,000 lines a second of event time. Wanted: the
users with more than ten violations in sixty seconds. Ours is the LogQL rule; plain Python is a dict of deques. Lines
are per second of CPU time of the process that does the work (threads of its Kafka client included), and per second of
wall clock where a broker takes part. Rivals that are slow get fewer lines: the rate does not depend on it. They are
installed into an environment of their own beside the other parts; where one cannot be had, the reason is printed.

The flow is the router and the evaluator in one process, on a real Kafka where one is cached, else on the embedded
broker, which holds few lines. All its CPU counts from before the roles start; its clock runs from the first batch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks import violations as data
from engine import logql
from engine.core.messages import LogBatch, RuleInput, decode_rule_input, encode
from engine.core.rules import parse_rules
from engine.core.step import Shard
from engine.edge.logging import configure
from engine.edge.node import running
from engine.edge.settings import LogSettings, Settings
from engine.flow import LOGS, RULE_INPUTS, RoleName
from engine.loading import load
from scripts import parts

RULES = """
groups:
  - name: bench
    interval: 15s
    rules:
      - alert: ManyViolations
        expr: >-
          sum by (user)
          (count_over_time({job="shop"} |= "policy_violation" | json | event="policy_violation" [60s])) > 10
        labels: {severity: warning}
"""
SPAN_MS, LIMIT = 60_000, 10
CHUNK_BATCHES = 50
RIVALS = Path(__file__).parent / "rivals"
RIVAL_LINES = 100_000
EMBEDDED_LINES = 60_000
ROLES: tuple[RoleName, ...] = ("router", "evaluator")


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


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """The URL of a real Kafka where one is cached, else empty: the embedded broker."""
    if parts.PARTS["kafka"].find(parts.default_cache()) is None:
        yield ""
        return
    from tests.parts import running_kafka

    with running_kafka(folder) as kafka:
        yield kafka.url


def flow(count: int, folder: Path, url: str) -> Result:
    """Lines on the topic `logs` through router and evaluator."""
    count = count if url else min(count, EMBEDDED_LINES)
    file = folder / "rules" / "logql" / "bench.yml"
    file.parent.mkdir(parents=True)
    file.write_text(RULES)
    empty = Settings()
    settings = Settings(
        state_dir=folder / "state",
        log=LogSettings(level="error", format="console"),
        kafka=empty.kafka.model_copy(update={"url": url, "topic_prefix": f"bench{random.randrange(10**9)}-"}),
        http=empty.http.model_copy(update={"listen": "127.0.0.1:0"}),
        rules=empty.rules.model_copy(update={"paths": [folder / "rules"]}),
    )
    configure(settings.log, settings.instance)
    return asyncio.run(_flow(settings, count))


async def _flow(settings: Settings, count: int) -> Result:
    bodies = [encode(batch) for batch in data.batches(count)]
    topic = settings.kafka.topic_prefix + LOGS.name
    if settings.kafka.url:
        await asyncio.to_thread(produce, settings.kafka.url, topic, [(b"bench", body) for body in bodies])
    cpu = time.process_time()
    async with running(settings, ROLES, load(settings.rules.paths)) as node:
        if not settings.kafka.url:
            await asyncio.to_thread(produce, node.bootstrap, topic, [(b"bench", body) for body in bodies])

        def done() -> float:
            return _counted(node.telemetry.processed, role="evaluator", topic=RULE_INPUTS.name)

        await _until(lambda: done() > 0)
        wall, last = time.perf_counter(), -1.0
        while last < len(bodies) or done() > last:  # after a rebalance at the start some are worked through twice
            last, ended = done(), time.perf_counter()
            await asyncio.sleep(0.3)
        lines = len(bodies) * data.BATCH_LINES
        cpu, wall = time.process_time() - cpu, ended - wall
        alerts = _counted(node.telemetry.transitions, state="firing")
    where = "Kafka" if settings.kafka.url else "the embedded broker"
    return Result(f"ours through {where} and Faust", lines, lines / cpu, lines / wall, int(alerts))


def _counted(counter: Any, **labels: str) -> float:
    return float(
        sum(
            sample.value
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
        )
    )


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(180):
        while not true():  # noqa: ASYNC110  # a benchmark may poll
            await asyncio.sleep(0.02)


def produce(url: str, topic: str, messages: list[tuple[bytes, bytes]]) -> None:
    """Put messages (key, value) on a topic."""
    producer = Producer({"bootstrap.servers": url, "linger.ms": 20, "compression.type": "lz4"})
    for key, value in messages:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(60)


def rival_python(package: str, extra: str = "") -> Path:
    """The Python of an environment with a rival, made once beside the other parts. Raises `CalledProcessError`."""
    folder = parts.default_cache() / f"rival-{package}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package, *extra.split()]
        subprocess.run([str(python), *install], check=True)
        (folder / "ready").touch()
    return python


def bytewax(count: int, folder: Path) -> Result:
    """Sliding windows in a bytewax dataflow."""
    python = rival_python("bytewax", "orjson")
    count = min(count, RIVAL_LINES)
    file = folder / "lines.jsonl"
    file.write_text("\n".join(text for _, text in data.lines(count)))
    found = _run(python, "bytewax_windows.py", str(file))
    return Result("bytewax", count, count / found["cpu_s"], 0, found["alerts"], "a window every 10 s")


def quixstreams(count: int, url: str) -> Result:
    """Sliding windows in Quix Streams, on the same broker."""
    if not url:
        raise RuntimeError("it needs a broker that outlives this process, and no Kafka is cached")
    python = rival_python("quixstreams")
    count = min(count, RIVAL_LINES)
    topic = f"bench{random.randrange(10**9)}-lines"
    messages = [
        (msgspec.json.decode(text, type=Violation).user.encode(), text.encode()) for _, text in data.lines(count)
    ]
    produce(url, topic, messages)
    found = _run(python, "quixstreams_windows.py", url, topic, str(count))
    return Result("Quix Streams", count, count / found["cpu_s"], count / found["wall_s"], found["alerts"])


def _run(python: Path, script: str, *arguments: str) -> dict[str, Any]:
    ran = subprocess.run([python, RIVALS / script, *arguments], capture_output=True, text=True, timeout=180)
    if ran.returncode:
        raise RuntimeError(ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else f"status {ran.returncode}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def ways(count: int, only: list[str], folder: Path, url: str) -> Iterator[tuple[str, Callable[[], Result]]]:
    """What is to be measured, by name."""
    every: list[tuple[str, str, Callable[[], Result]]] = [
        ("core", "our core", lambda: core(count, decoding=False)),
        ("core", "our core, with decoding", lambda: core(count, decoding=True)),
        ("flow", "our flow", lambda: flow(count // 2, folder, url)),
        ("plain", "plain Python", lambda: plain(count, prefilter=False)),
        ("plain", "plain Python", lambda: plain(count, prefilter=True)),
        ("bytewax", "bytewax", lambda: bytewax(count, folder)),
        ("quixstreams", "Quix Streams", lambda: quixstreams(count, url)),
    ]
    return ((name, run) for key, name, run in every if key in only)


def main() -> None:
    """Measure and print."""
    names = ["core", "flow", "plain", "bytewax", "quixstreams"]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--only", nargs="+", choices=names, default=names)
    chosen = options.parse_args()
    table = Table(title="users with more than 10 violations in 60 s")
    for column in ("way", "lines", "lines/s of CPU", "lines/s", "alerts", "remark"):
        table.add_column(column)
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        needs_broker = {"flow", "quixstreams"} & set(chosen.only)
        with broker(folder) if needs_broker else contextmanager(lambda: iter([""]))() as url:
            for way, run in ways(chosen.lines, chosen.only, folder, url):
                try:
                    one = results[way] = run()
                except (RuntimeError, subprocess.SubprocessError) as error:
                    table.add_row(way, "", "", "", "", f"could not be had: {error}")
                    continue
                wall = f"{one.wall_rate:,.0f}" if one.wall_rate else ""
                table.add_row(one.name, f"{one.lines:,}", f"{one.cpu_rate:,.0f}", wall, str(one.alerts), one.remark)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
