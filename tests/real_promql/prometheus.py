"""Data written into a real Prometheus, and queries answered by it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cramjam
import httpx

from connectors.remote_write import MESSAGES
from engine.core.labels import encode
from tests.real_promql.series import Series


@dataclass
class Answer:
    """What came of a query. `kind` is that of the result ("vector", ...) or "error"; values by series and time."""

    kind: str
    series: dict[bytes, dict[int, Any]] = field(default_factory=dict)
    error: str = ""
    notes: set[str] = field(default_factory=set)


CONFIG = "global: {evaluation_interval: 1m}\n"
_RECEIVER = "--web.enable-remote-write-receiver"


def version(program: Path) -> tuple[int, int]:
    """Major and minor version of a Prometheus."""
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603  # our part
    match = re.search(r"version (\d+)\.(\d+)", shown.stdout + shown.stderr)
    assert match, shown.stdout
    return int(match[1]), int(match[2])


def flags(*, newest: bool, delayed_names: bool) -> list[str]:
    """What a Prometheus needs to be written to, and to take everything it can."""
    if not newest:
        return [_RECEIVER]
    features = ["promql-experimental-functions", *(["promql-delayed-name-removal"] if delayed_names else [])]
    return [_RECEIVER, f"--enable-feature={','.join(features)}"]


def write(client: httpx.Client, series: Iterable[Series]) -> None:
    """Remote-write all samples."""
    request = MESSAGES["WriteRequest"]()
    for labels, samples in series:
        entry = request.timeseries.add()
        for name, value in sorted(labels.items()):
            entry.labels.add(name=name, value=value)
        for t_ms, number in samples:
            entry.samples.add(timestamp=t_ms, value=number)
    body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
    response = client.post("/api/v1/write", content=body, headers={"Content-Encoding": "snappy"})
    assert response.is_success, response.text


def ask(client: httpx.Client, text: str, times: range) -> Answer:
    """What Prometheus answers: to a range query if there are several times."""
    if len(times) > 1:
        path, when = "query_range", {"start": times[0], "end": times[-1], "step": times.step}
    else:
        path, when = "query", {"time": times[0]}
    parameters = {name: f"{ms / 1000:.3f}" for name, ms in when.items()}
    answer = client.post(f"/api/v1/{path}", data={"query": text, **parameters}).json()
    if answer["status"] != "success":
        return Answer("error", error=answer["error"])
    kind, result = answer["data"]["resultType"], answer["data"]["result"]
    notes = {plain(note) for key in ("warnings", "infos") for note in answer.get(key, ())}
    if kind in ("scalar", "string"):
        return Answer(kind, {b"": {times[0]: result[1] if kind == "string" else float(result[1])}}, notes=notes)
    series = {
        encode(one["metric"]): {round(t * 1000): float(v) for t, v in one.get("values") or [one["value"]]}
        for one in result
    }
    return Answer(kind, series, notes=notes)


def plain(note: str) -> str:
    """A warning or info as far as versions agree on it: without its kind, place and advice."""
    return re.split(r" \(see |, got |(?: for metric name)| \(\d+:\d+\)", re.sub("^PromQL (warning|info): ", "", note))[
        0
    ]
