"""What evaluating eight ordinary rules over 50,000 series costs, and Prometheus beside us on the same data.

    python -m benchmarks.rules [--series 50000] [--evaluations 20] [--seconds 30] [--only ours]

Two states are compared: 20 samples a series in the rules' range (scraped every 15 s) and 300 (every second).

*One evaluation of the eight rules, CPU.* Ours: `Shard.step` with a heartbeat that makes one tick due, as the evaluator
calls it (windows, alerts and eviction included). Prometheus: its rule engine runs the group; CPU of its process over a
stretch without ingestion, less the CPU of as long a stretch without rules, by evaluations done in it. That counts its
garbage collection, as ours does; what its own `rule_evaluation_duration` says is shown beside it. Samples are there in
advance, so the range is full at every evaluation. What both answer is compared, too.

*Every second.* 50,000 samples arrive each second while the rules are evaluated each second, with 300 samples in range.
Ours: another process makes the messages of `rule-inputs` in real time, this one decodes and steps; its CPU, and how
many evaluations were not done when the next was due. Prometheus: the same samples by remote write in real time; CPU of
its process, and the iterations that it counts as missed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks._fleet import HEADERS, RULES, Fleet, rule_file
from engine import promql
from engine.core.group import NEVER, StepConfig
from engine.core.messages import MetricBatch, RuleInput, decode_rule_input, encode
from engine.core.rules import parse_rules
from engine.core.step import Shard

RANGE_MS = 300_000
AHEAD_MS = 150_000
IDLE_S = 4


@dataclass
class Figures:
    """What was measured of one side: CPU of an evaluation by samples in range, and the run of every second."""

    evaluation_s: dict[int, float] = field(default_factory=dict)
    says_s: dict[int, float] = field(default_factory=dict)
    cores: float = float("nan")
    missed: int = 0
    due: int = 0
    answers: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)


def left_sides() -> dict[str, str]:
    """The rules' expressions without their thresholds, to compare answers."""
    return {name: expr.rpartition(" ")[0].rpartition(" ")[0] for name, expr in RULES.items()}


# Ours


def shard_of_rules(interval: str) -> Shard:
    """A shard with the rules, evaluated at ticks only, as Prometheus does."""
    groups, problems = parse_rules(rule_file(interval), "bench.yml", promql.compile)
    assert not problems, problems
    return Shard(groups, StepConfig(eager_per_s=0))


def fill(shard: Shard, fleet: Fleet, scrapes: range) -> None:
    """Put scrapes into the windows; nothing is complete yet, so nothing is evaluated."""
    for scrape in scrapes:
        for batch in fleet.batches(scrape, NEVER, epoch=1, events=5_000):
            shard.step(RuleInput(0, batch))


def beat(number: int, watermark_ms: int) -> RuleInput:
    """A heartbeat of the fleet: all before the watermark is complete."""
    return RuleInput(0, MetricBatch("fleet", 2, number, watermark_ms, watermark_ms))


def ours_evaluation(fleet: Fleet, samples: int, evaluations: int, figures: Figures) -> Shard:
    """CPU of one evaluation of the eight rules, the mean of so many."""
    shard = shard_of_rules("1s")
    fill(shard, fleet, range(samples + AHEAD_MS // fleet.interval_ms))
    now_ms = fleet.start_ms + RANGE_MS
    shard.step(beat(1, now_ms - 1_000))
    shard.step(beat(2, now_ms + 1))  # what depends on labels alone is worked out once, here
    started = time.process_time()
    for number in range(evaluations):
        shard.step(beat(3 + number, now_ms + 1_000 * (number + 1) + 1))
    figures.evaluation_s[samples] = (time.process_time() - started) / evaluations
    figures.answers[samples] = ours_answers(shard, now_ms + evaluations * 1_000)
    return shard


def ours_answers(shard: Shard, at_ms: int) -> dict[str, dict[str, float]]:
    """The value of each expression by label set."""
    windows = shard.groups[0].windows
    out: dict[str, dict[str, float]] = {}
    for name, text in left_sides().items():
        vector = promql.compile(text).evaluate(windows, at_ms)
        out[name] = {_text(ls): float(v) for ls, v in zip(vector.labels, vector.values, strict=True)}
    return out


def ours_every_second(series: int, seconds: int, figures: Figures) -> None:
    """Messages in real time from another process into a shard whose windows are full."""
    start_ms = int(time.time()) * 1_000 - RANGE_MS
    fleet, shard = Fleet(series, start_ms, 1_000), shard_of_rules("1s")
    fill(shard, fleet, range(300))
    shard.step(beat(1, start_ms + RANGE_MS - 1_000))
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=send_messages, args=(sending, series, start_ms, seconds), daemon=True)
    process.start()
    sending.close()
    receiving.recv_bytes()  # the first message takes time to make and tells when the clock starts
    late, done_ms, cpu = 0, 0, time.process_time()
    started = time.monotonic()
    while True:
        try:
            message = decode_rule_input(receiving.recv_bytes())
        except EOFError:
            break
        shard.step(message)
        if shard.evaluated_ms // 1_000 > done_ms:
            figures.due += 1
            late += done_ms > 0 and time.monotonic() - started > figures.due + 1
            done_ms = shard.evaluated_ms // 1_000
    figures.cores = (time.process_time() - cpu) / (time.monotonic() - started)
    figures.missed = late


def send_messages(pipe: Connection, series: int, start_ms: int, seconds: int) -> None:
    """One scrape a second as the messages of `rule-inputs`, spread over the second."""
    fleet = Fleet(series, start_ms, 1_000)
    assert fleet.keys
    pipe.send_bytes(b"ready")
    started = time.monotonic()
    for second in range(seconds):
        scrape = 300 + second
        batches = list(fleet.batches(scrape, start_ms + scrape * 1_000 + 1, epoch=3))
        for number, batch in enumerate(batches):
            time.sleep(max(0.0, started + second + number / len(batches) - time.monotonic()))
            pipe.send_bytes(encode(RuleInput(0, batch)))
    pipe.close()


# Prometheus


@dataclass
class Rival:
    """A running Prometheus."""

    url: str
    folder: Path
    process: psutil.Process

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """POST over a connection of its own."""
        self.post_all(path, [body], headers or {})

    def post_all(self, path: str, bodies: Iterator[bytes] | list[bytes], headers: dict[str, str]) -> None:
        """POST bodies one after the other over one connection."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=60)
        for body in bodies:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise SystemExit(f"Prometheus answers {answer.status} to {path}: {text[:500]!r}")
        connection.close()

    def write(self, bodies: Iterator[bytes] | list[bytes]) -> None:
        """Remote write."""
        self.post_all("/api/v1/write", bodies, HEADERS)

    def run_rules(self, text: str) -> None:
        """Replace the rule file."""
        (self.folder / "bench.yml").write_text(text)
        self.post("/-/reload")

    def cpu_s(self) -> float:
        """CPU of the process so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def counter(self, name: str) -> float:
        """The sum of a metric of its own, over all label sets."""
        with urllib.request.urlopen(f"{self.url}/metrics") as page:  # noqa: S310  # loopback
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))

    def query(self, text: str, at_ms: int) -> dict[str, float]:
        """An instant query: value by label set."""
        ask = urllib.parse.urlencode({"query": text, "time": at_ms / 1000})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{ask}") as page:  # noqa: S310  # loopback
            found = json.load(page)["data"]["result"]
        return {_text(one["metric"]): float(one["value"][1]) for one in found}


def _text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)


@contextlib.contextmanager
def rival() -> Iterator[Rival]:
    """A Prometheus that takes remote write and has no rules yet."""
    from tests.parts import running_prometheus

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.yml").write_text("groups: []\n")
        config = f"global: {{scrape_interval: 1h}}\nrule_files: ['{folder / 'bench.yml'}']\n"
        flags = ("--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--log.level=error")
        before = {child.pid for child in psutil.Process().children()}
        with running_prometheus(folder, config, flags) as url:
            (process,) = [child for child in psutil.Process().children() if child.pid not in before]
            yield Rival(url, folder, process)


def rival_evaluation(prometheus: Rival, fleet: Fleet, samples: int, evaluations: int, figures: Figures) -> None:
    """CPU of one evaluation of the eight rules, and the time that Prometheus itself says it took."""
    prometheus.write(fleet.requests(range(samples + AHEAD_MS // fleet.interval_ms), 20_000))
    time.sleep(2)
    idle = prometheus.cpu_s()
    time.sleep(IDLE_S)
    idle_cores = (prometheus.cpu_s() - idle) / IDLE_S
    prometheus.run_rules(rule_file("1s"))
    _wait_for(prometheus, 1)  # the first one is not counted, as with us
    counts = "prometheus_rule_evaluations_total", "prometheus_rule_evaluation_duration_seconds_sum"
    before, cpu, started = [prometheus.counter(name) for name in counts], prometheus.cpu_s(), time.monotonic()
    _wait_for(prometheus, 1 + evaluations)
    spent = prometheus.cpu_s() - cpu - idle_cores * (time.monotonic() - started)
    done, says = (prometheus.counter(name) - old for name, old in zip(counts, before, strict=True))
    figures.evaluation_s[samples] = spent * len(RULES) / done
    figures.says_s[samples] = says * len(RULES) / done
    prometheus.run_rules("groups: []\n")


def _wait_for(prometheus: Rival, evaluations: int) -> None:
    deadline = time.monotonic() + 60
    while prometheus.counter("prometheus_rule_evaluations_total") < evaluations * len(RULES):
        if time.monotonic() > deadline:
            return  # what it has done by now is counted
        time.sleep(0.2)


def rival_every_second(prometheus: Rival, series: int, seconds: int, figures: Figures) -> float:
    """Remote write and rules every second; the cores that writing alone takes."""
    fleet = Fleet(series, int(time.time()) * 1_000 - RANGE_MS, 1_000)
    prometheus.write(fleet.requests(range(300), 20_000))
    writing = _stream(prometheus, fleet, 300, 8)
    prometheus.run_rules(rule_file("1s"))
    counts = "prometheus_rule_group_iterations_total", "prometheus_rule_group_iterations_missed_total"
    before = [prometheus.counter(name) for name in counts]
    figures.cores = _stream(prometheus, fleet, 308, seconds)
    due, missed = (prometheus.counter(name) - old for name, old in zip(counts, before, strict=True))
    figures.due, figures.missed = int(due), int(missed)
    return writing


def _stream(prometheus: Rival, fleet: Fleet, first: int, seconds: int) -> float:
    """Write a scrape every second for so long; the cores that Prometheus took."""
    cpu, started = prometheus.cpu_s(), time.monotonic()
    for second in range(seconds):
        bodies = list(fleet.requests(range(first + second, first + second + 1), 2_000))
        time.sleep(max(0.0, started + second - time.monotonic()))
        prometheus.write(bodies)
    time.sleep(max(0.0, started + seconds - time.monotonic()))
    return (prometheus.cpu_s() - cpu) / (time.monotonic() - started)


# Together


def measure_rival(given: argparse.Namespace, ours: Figures) -> tuple[Figures, float, list[str]]:
    """Everything of Prometheus; the last are the differences between its answers and ours."""
    figures, differences = Figures(), []
    for samples, interval_ms in ((20, 15_000), (300, 1_000)):
        with rival() as prometheus:
            start_ms = int(time.time()) * 1_000 - RANGE_MS
            fleet = Fleet(given.series, start_ms, interval_ms)
            rival_evaluation(prometheus, fleet, samples, given.evaluations, figures)
            at_ms = start_ms + RANGE_MS + given.evaluations * 1_000
            for name, text in left_sides().items():
                answers = prometheus.query(text, at_ms)
                if samples in ours.answers and not _same(answers, ours.answers[samples][name]):
                    differences.append(f"{name} at {samples} samples")
    with rival() as prometheus:
        writing = rival_every_second(prometheus, given.series, given.seconds, figures)
    return figures, writing, differences


def _same(left: dict[str, float], right: dict[str, float]) -> bool:
    return left.keys() == right.keys() and all(np.isclose(left[key], right[key], rtol=1e-9) for key in left)


def measure_ours(given: argparse.Namespace) -> Figures:
    """Everything of ours."""
    figures = Figures()
    for samples, interval_ms in ((20, 15_000), (300, 1_000)):
        fleet = Fleet(given.series, int(time.time()) * 1_000 - RANGE_MS, interval_ms)
        ours_evaluation(fleet, samples, given.evaluations, figures)
    ours_every_second(given.series, given.seconds, figures)
    return figures


def show(ours: Figures, theirs: Figures | None, writing: float) -> None:
    """Print both tables."""
    table = Table("samples a series", "ours", "Prometheus", "it says, wall", "ratio", title="eight rules once, CPU ms")
    for samples, own in ours.evaluation_s.items():
        other = theirs.evaluation_s[samples] if theirs else float("nan")
        says = theirs.says_s[samples] if theirs else float("nan")
        table.add_row(
            str(samples), f"{own * 1e3:.1f}", f"{other * 1e3:.0f}", f"{says * 1e3:.0f}", f"{other / own:.1f} times"
        )
    live = Table("", "cores", "evaluations due", "missed", title="50,000 samples and eight rules every second")
    live.add_row("ours", f"{ours.cores:.2f}", str(ours.due), str(ours.missed))
    if theirs:
        live.add_row("Prometheus", f"{theirs.cores:.2f}", str(theirs.due), str(theirs.missed))
        live.add_row("Prometheus, writing alone", f"{writing:.2f}", "-", "-")
    for one in (table, live):
        Console(width=100).print(one)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50_000)
    parser.add_argument("--evaluations", type=int, default=20, help="evaluations of the eight rules in a row")
    parser.add_argument("--seconds", type=int, default=30, help="how long the run of every second lasts")
    parser.add_argument("--only", choices=("ours",), help="leave Prometheus out")
    given = parser.parse_args()
    ours = measure_ours(given)
    theirs, writing = None, float("nan")
    if not given.only:
        import pytest

        try:
            theirs, writing, differences = measure_rival(given, ours)
            print("answers differ: " + ", ".join(differences) if differences else "both give the same answers")
        except pytest.skip.Exception as reason:
            print(f"Prometheus: left out: {reason}", file=sys.stderr)
    show(ours, theirs, writing)


if __name__ == "__main__":
    main()
