"""What decoding the wire formats costs, each beside the usual way of doing it.

    python -m benchmarks.decode [--series N] [--lines N] [--seconds S]

Remote write: our decoder against the protobuf runtime parsing the whole request and touching every label (and against
our own first sight of the series, when nothing is cached yet). Loki: JSON and protobuf push against the standard
library's `json`. Scrape: a page seen before against prometheus-client's parser. Last, the way on to the topic: stamping
and encoding what was decoded.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator

import cramjam
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from connectors import loki_push, remote_write, scrape
from engine.core import labels as label_sets
from engine.core.batching import Events, Samples
from engine.core.messages import encode
from engine.core.sources import SourceClock

T_MS = 1_700_000_000_000
REMOTE_WRITE = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}

Row = tuple[str, float, float]


def rate(run: Callable[[], object], events: int, seconds: float) -> float:
    """Events per CPU-second: the best of three rounds, each of at least a third of the time."""
    best = 0.0
    for _ in range(3):
        rounds, started = 0, time.process_time()
        while (spent := time.process_time() - started) < seconds / 3:
            run()
            rounds += 1
        best = max(best, rounds * events / spent)
    return best


def series_labels(number: int) -> dict[str, str]:
    """A label set like a service's own: nine labels, about 180 bytes."""
    return {
        "__name__": "bridge_request_duration_seconds_bucket",
        "instance": f"10.0.{number // 250}.{number % 250}:8080",
        "job": "bridge",
        "le": "0.25",
        "method": "POST",
        "namespace": "aureus",
        "path": f"/api/v1/resource/{number % 97}",
        "pod": f"bridge-{number:08x}",
        "status": "200",
    }


def write_requests(series: int, per_request: int) -> list[bytes]:
    """A scrape of so many series as Prometheus sends it: one sample each, some values zero."""
    draw = random.Random(7)
    label, sample = remote_write.MESSAGES["Label"], remote_write.MESSAGES["Sample"]
    all_series = [
        remote_write.MESSAGES["TimeSeries"](
            labels=[label(name=name, value=value) for name, value in series_labels(number).items()],
            samples=[sample(value=0.0 if draw.random() < 0.2 else draw.random() * 1e6, timestamp=T_MS)],
        )
        for number in range(series)
    ]
    request = remote_write.MESSAGES["WriteRequest"]
    parts = (all_series[i : i + per_request] for i in range(0, series, per_request))
    return [bytes(cramjam.snappy.compress_raw(request(timeseries=part).SerializeToString())) for part in parts]


def full_parse(body: bytes) -> list[tuple[bytes, int, float]]:
    """The usual way: every series an object, every label touched."""
    request = remote_write.MESSAGES["WriteRequest"].FromString(bytes(cramjam.snappy.decompress_raw(body)))
    return [
        (label_sets.encode({label.name: label.value for label in series.labels}), sample.timestamp, sample.value)
        for series in request.timeseries
        for sample in series.samples
    ]


def bench_remote_write(series: int, seconds: float) -> Iterator[Row]:
    """Remote write, in samples."""
    bodies = write_requests(series, 2_000)

    def run(decode: Callable[[bytes], object]) -> Callable[[], object]:
        return lambda: [decode(body) for body in bodies]

    def first_sight(body: bytes) -> object:
        remote_write.forget()
        return remote_write.decode(body, REMOTE_WRITE, T_MS)

    rival = rate(run(full_parse), series, seconds)
    yield "remote write: protobuf, every label touched (rival)", rival, rival
    yield "remote write: ours, series never seen", rate(run(first_sight), series, seconds), rival
    remote_write.forget()
    yield "remote write: ours", rate(run(lambda b: remote_write.decode(b, REMOTE_WRITE, T_MS)), series, seconds), rival


def log_lines(number: int) -> list[str]:
    """JSON lines of about 150 bytes."""
    return [
        json.dumps({"event": "signature_verified", "service": "bridge", "key_id": f"k{i % 9}", "pad": "x" * 70, "n": i})
        for i in range(number)
    ]


def loki_bodies(lines: list[str]) -> tuple[bytes, bytes]:
    """The same lines as a JSON and as a protobuf push, in ten streams."""
    streams = [lines[i::10] for i in range(10)]
    as_json = {
        "streams": [
            {
                "stream": {"job": "bridge", "n": str(n)},
                "values": [[str(T_MS * 10**6 + i), s] for i, s in enumerate(part)],
            }
            for n, part in enumerate(streams)
        ]
    }
    entry = loki_push.MESSAGES["Entry"]
    request = loki_push.MESSAGES["PushRequest"](
        streams=[
            loki_push.MESSAGES["Stream"](
                labels=f'{{job="bridge", n="{n}"}}',
                entries=[
                    entry(timestamp={"seconds": T_MS // 1000, "nanos": i}, line=line.encode())
                    for i, line in enumerate(part)
                ],
            )
            for n, part in enumerate(streams)
        ]
    )
    return json.dumps(as_json).encode(), bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def json_rival(body: bytes) -> list[tuple[bytes, int, str]]:
    """The standard library's json, and a tuple for each line."""
    return [
        (label_sets.encode(stream["stream"]), int(t_ns), line)
        for stream in json.loads(body)["streams"]
        for t_ns, line in stream["values"]
    ]


def bench_loki(lines: int, seconds: float) -> Iterator[Row]:
    """Loki push, in lines."""
    as_json, as_protobuf = loki_bodies(log_lines(lines))
    rival = rate(lambda: json_rival(as_json), lines, seconds)
    yield "Loki push: json of the standard library (rival)", rival, rival
    yield "Loki push: ours, JSON", rate(lambda: loki_push.decode(as_json, JSON, T_MS), lines, seconds), rival
    yield (
        "Loki push: ours, protobuf",
        rate(lambda: loki_push.decode(as_protobuf, PROTOBUF, T_MS), lines, seconds),
        rival,
    )


def exposition_line(number: int) -> str:
    """One series in the text format."""
    names = series_labels(number)
    pairs = ",".join(f'{name}="{value}"' for name, value in names.items() if name != "__name__")
    return f"{names['__name__']}{{{pairs}}} {number}\n"


def bench_scrape(series: int, seconds: float) -> Iterator[Row]:
    """A page of the text format, in samples."""
    text = "".join(exposition_line(number) for number in range(series))

    def library() -> int:
        families = text_string_to_metric_families(text)
        return sum(len(label_sets.encode(sample.labels)) for family in families for sample in family.samples)

    page = scrape.Page({"job": "bridge", "instance": "bridge:8080"})
    rival = rate(library, series, seconds)
    yield "scrape: prometheus-client's parser (rival)", rival, rival
    yield "scrape: ours", rate(lambda: page.parse(text.encode(), "text/plain", T_MS), series, seconds), rival


def bench_stamp(series: int, lines: int, seconds: float) -> Iterator[Row]:
    """From decoded events to the bytes of messages."""
    decoded = [remote_write.decode(body, REMOTE_WRITE, T_MS).events for body in write_requests(series, 2_000)]
    samples = Samples.concat(part for part in decoded if isinstance(part, Samples))
    streams = loki_push.decode(loki_bodies(log_lines(lines))[0], JSON, T_MS).events

    def run(clock: SourceClock, events: Events) -> Callable[[], object]:
        def once() -> None:
            stamp = clock.stamp([clock.admit(events, T_MS)], T_MS)
            for batch in stamp.batches:
                encode(batch)
            clock.delivered(stamp)

        return once

    metrics = SourceClock("bench", "metrics", T_MS, remote_write.CONNECTOR.timing)
    logs = SourceClock("bench", "logs", T_MS, loki_push.CONNECTOR.timing)
    for name, clock, events, number in (
        ("stamp and encode: samples", metrics, samples, series),
        ("stamp and encode: lines", logs, streams, lines),
    ):
        measured = rate(run(clock, events), number, seconds)
        yield name, measured, measured


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=50_000)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=1.5, help="per row")
    chosen = parser.parse_args()
    table = Table("decoding", "events per CPU-second", "times the rival", title="one core, CPU time")
    for rows in (
        bench_remote_write(chosen.series, chosen.seconds),
        bench_loki(chosen.lines, chosen.seconds),
        bench_scrape(min(chosen.series, 10_000), chosen.seconds),
        bench_stamp(chosen.series, chosen.lines, chosen.seconds),
    ):
        for name, measured, rival in rows:
            table.add_row(name, f"{measured:,.0f}", f"{measured / rival:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
