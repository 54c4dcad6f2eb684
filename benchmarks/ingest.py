"""Remote write into windows: samples per CPU-second and memory per series, Prometheus's receiver beside us.

    python -m benchmarks.ingest [--series 50000] [--rounds 40] [--per-request 2000] [--shards 16]

Ours is the whole way: HTTP, Kafka, router, Kafka, evaluator, windows. The roles `connectors`, `router` and `evaluator`
run as three processes; the rules read every series and are hardly evaluated. Prometheus gets the same requests into its
remote-write receiver and has no rules. The CPU counted is that of our three processes, or of Prometheus's one; not that
of the load generator and of Kafka (which is shown). Requests are what a Prometheus sends: shards, each cutting the
stream of its series at so many samples and once a round earlier (its deadline), one sample a series. A Prometheus adds
shards while it is behind (up to 50, or 200 before 3.0), so a receiver that is kept busy hears many; sixteen here.

Samples are counted once they are in the windows: the stretch ends when the evaluator has worked through everything, and
the windows are asked for their series. Memory is the growth of RSS from the start to the end of the run by series.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks._fleet import HEADERS, SERIES_A_POD, Fleet, rule_file, write_request

ROLES = ("connectors", "router", "evaluator")
WARM_UP_ROUNDS, INTERVAL_MS = 3, 15_000
AHEAD = 1  # scrapes: a shard's queue holds about as much more (its `capacity`), then the others have to come after
BEHIND_MS = 20 * 3_600_000


@dataclass
class Run:
    """What a run took: by process, CPU seconds of the measured rounds and the growth of memory."""

    samples: int
    wall_s: float
    cpu_s: dict[str, float]
    grown_bytes: dict[str, int]
    note: str = ""

    @property
    def rate(self) -> float:
        """Samples per CPU-second of all processes."""
        return self.samples / sum(self.cpu_s.values())


def bodies(fleet: Fleet, shard: tuple[int, int], scrape: int, per_request: int) -> Iterator[bytes]:
    """The requests for one scrape of one shard (number, of how many) of a sending Prometheus."""
    own = np.flatnonzero(np.arange(len(fleet)) // SERIES_A_POD % shard[1] == shard[0])
    wire = [fleet.wire[row] for row in own.tolist()]
    times, values = fleet.times_ms(scrape)[own, None], fleet.values(scrape)[own, None]
    start, deadline = 0, int(np.random.default_rng((shard[0], scrape)).integers(1, len(wire)))
    while start < len(wire):
        stop = min(start + per_request, len(wire))
        stop = deadline if start < deadline < stop else stop
        yield write_request(wire[start:stop], times[start:stop], values[start:stop])
        start = stop


def scrapes(fleet: Fleet, rounds: range, given: argparse.Namespace) -> list[list[list[bytes]]]:
    """The requests by scrape and shard. They are made before the clock starts: senders have machines of their own."""
    shards = range(given.shards)
    return [
        [list(bodies(fleet, (shard, given.shards), scrape, given.per_request)) for shard in shards] for scrape in rounds
    ]


async def push(url: str, requests: list[list[list[bytes]]]) -> None:
    """Send scrapes as fast as they are taken, every shard in order and no more than `AHEAD` before the slowest one."""
    taken, moved = [0] * len(requests[0]), asyncio.Condition()

    async def one(session: aiohttp.ClientSession, shard: int) -> None:
        for number, scrape in enumerate(requests):
            async with moved:
                await moved.wait_for(lambda number=number: min(taken) >= number - AHEAD)  # type: ignore[misc]
            for body in scrape[shard]:
                async with session.post(url, data=body) as answer:
                    if answer.status >= 300:
                        raise SystemExit(f"{url} answers {answer.status}: {(await answer.text())[:500]}")
            async with moved:
                taken[shard] += 1
                moved.notify_all()

    async with aiohttp.ClientSession(headers=HEADERS) as session:
        await asyncio.gather(*(one(session, shard) for shard in range(len(taken))))


def cpu_s(process: psutil.Process) -> float:
    """CPU of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def counters(url: str, name: str) -> float:
    """The sum of a metric on a page."""
    with urllib.request.urlopen(f"{url}/metrics") as page:  # noqa: S310  # loopback
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))


@dataclass
class Target:
    """What takes the requests: its processes, and how one knows that it is through with all of them."""

    url: str
    processes: dict[str, psutil.Process]
    uncounted: dict[str, psutil.Process]

    def settle(self) -> None:
        """Return when everything that was sent has been worked through."""

    def check(self, series: int) -> str:
        """Whether all of it arrived; says what did not."""
        del series
        return ""


class Sentinel(Target):
    """The three roles as processes."""

    def __init__(self, pages: dict[str, str], processes: dict[str, psutil.Process], kafka: dict[str, psutil.Process]):
        super().__init__(f"{pages['connectors']}/api/v1/write?source=fleet", processes, kafka)
        self._pages = pages

    def settle(self) -> None:
        """The evaluator has as many messages behind it as the router, and nothing moves any more."""
        last: tuple[float, ...] = ()
        while True:
            now = tuple(counters(self._pages[role], "sentinel_processed_total") for role in ("router", "evaluator"))
            if now == last and now[0] == now[1] > 0:
                return
            last = now
            time.sleep(0.5)

    def check(self, series: int) -> str:
        """The windows hold every series, and nothing was dropped anywhere."""
        drops = sum(counters(self._pages[role], "sentinel_drops_total") for role in ROLES)
        ask = f"{self._pages['evaluator']}/api/v1/query?query=count(http_requests_total)"
        held, tries = 0.0, 60  # a query is answered up to the watermark, which waits some seconds after a start
        while held < series // 5 and (tries := tries - 1):
            time.sleep(0.5)
            result = httpx.get(ask).json()["data"]["result"]
            held = float(result[0]["value"][1]) if result else 0.0
        return f"{held:.0f} of {series // 5} request counters held, {drops:.0f} events dropped"


def measure(target: Target, given: argparse.Namespace) -> Run:
    """Send the rounds, and read CPU and memory."""
    start_ms = int(time.time()) * 1_000 - BEHIND_MS
    fleet = Fleet(given.series, start_ms, INTERVAL_MS)
    assert fleet.wire
    warm_up = scrapes(fleet, range(WARM_UP_ROUNDS), given)
    measured = scrapes(fleet, range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + given.rounds), given)
    rss = {name: process.memory_info().rss for name, process in target.processes.items()}
    asyncio.run(push(target.url, warm_up))
    target.settle()
    everyone = target.processes | target.uncounted
    before = {name: cpu_s(process) for name, process in everyone.items()}
    started = time.monotonic()
    asyncio.run(push(target.url, measured))
    target.settle()
    wall_s = time.monotonic() - started
    spent = {name: cpu_s(process) - before[name] for name, process in everyone.items()}
    others = ", ".join(f"{name} {spent[name]:.1f} CPU s not counted" for name in target.uncounted)
    return Run(
        len(fleet) * given.rounds,
        wall_s,
        {name: spent[name] for name in target.processes},
        {name: process.memory_info().rss - rss[name] for name, process in target.processes.items()},
        "; ".join(filter(None, (target.check(len(fleet)), others))),
    )


@contextlib.contextmanager
def sentinel(folder: Path, kafka_url: str, kafka: dict[str, psutil.Process]) -> Iterator[Sentinel]:
    """The three roles, each a `sentinel run` of its own, ready."""
    from tests.parts import Program, answers, free_ports

    rules = folder / "rules" / "prometheus"
    rules.mkdir(parents=True)
    (rules / "bench.yml").write_text(rule_file("6h"))
    pages = {role: f"http://127.0.0.1:{port}" for role, port in zip(ROLES, free_ports(len(ROLES)), strict=True)}
    with contextlib.ExitStack() as stack:
        programs = {}
        for role in ROLES:
            settings = {
                "state_dir": str(folder / role),
                "instance": role,
                "log": {"level": "warning"},
                "kafka": {"url": kafka_url, "topic_prefix": "bench-"},
                "http": {"listen": pages[role].removeprefix("http://")},
                "connectors": {},  # shards are not in step in the first round
                "rules": {"paths": [str(folder / "rules")], "eager_per_s": 0},
            }
            file = folder / f"{role}.yml"
            file.write_text(yaml.safe_dump(settings))
            command = [str(Path(sys.executable).parent / "sentinel"), "run", "--role", role, "--config", str(file)]
            programs[role] = Program(command, folder / f"{role}.log")
            stack.callback(programs[role].stop)
            programs[role].wait_until(lambda role=role: answers(f"{pages[role]}/ready"), role)  # type: ignore[misc]
        processes = {role: psutil.Process(program.process.pid) for role, program in programs.items()}
        yield Sentinel(pages, processes, kafka)


def measure_sentinel(given: argparse.Namespace) -> Run:
    """Ours, on a Kafka of one node."""
    from tests.parts import running_kafka

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kafka").mkdir()
        with running_kafka(folder / "kafka") as kafka:
            (java,) = (child for child in psutil.Process().children() if child.name() == "java")
            with sentinel(folder, kafka.url, {"Kafka": java}) as target:
                return measure(target, given)


def measure_prometheus(given: argparse.Namespace) -> Run:
    """The rival."""
    from tests.parts import running_prometheus

    with tempfile.TemporaryDirectory() as name:
        flags = ("--web.enable-remote-write-receiver", "--log.level=error")
        with running_prometheus(Path(name), "global: {scrape_interval: 1h}\n", flags) as url:
            (process,) = (child for child in psutil.Process().children() if child.name() == "prometheus")
            return measure(Target(f"{url}/api/v1/write", {"Prometheus": process}, {}), given)


def show(runs: dict[str, Run], series: int) -> None:
    """Print the table."""
    rival = runs.get("Prometheus")
    table = Table("", "samples per CPU-s", "times", "CPU us/sample", "bytes/series", "all", "times")
    for name, run in runs.items():
        cpu = ", ".join(f"{part} {s / run.samples * 1e6:.2f}" for part, s in run.cpu_s.items())
        memory = ", ".join(f"{part} {grown // series:,}" for part, grown in run.grown_bytes.items())
        total = sum(run.grown_bytes.values())
        against = total / sum(rival.grown_bytes.values()) if rival else float("nan")
        faster = run.rate / rival.rate if rival else float("nan")
        table.add_row(name, f"{run.rate:,.0f}", f"{faster:.1f}", cpu, memory, f"{total // series:,}", f"{against:.2f}")
    Console(width=140).print(table)
    for name, run in runs.items():
        print(f"{name}: {run.samples:,} samples in {run.wall_s:.1f} s. {run.note}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=40, help="scrapes that are sent and measured")
    parser.add_argument("--per-request", type=int, default=2_000, help="most samples a request")
    parser.add_argument("--shards", type=int, default=16, help="connections that send at once")
    parser.add_argument("--only", choices=("sentinel", "prometheus"))
    given = parser.parse_args()
    import pytest

    runs: dict[str, Run] = {}
    for name, run in (("Sentinel", measure_sentinel), ("Prometheus", measure_prometheus)):
        if given.only in (None, name.lower()):
            try:
                runs[name] = run(given)
            except pytest.skip.Exception as reason:
                print(f"{name}: left out: {reason}", file=sys.stderr)
    show(runs, given.series)


if __name__ == "__main__":
    main()
