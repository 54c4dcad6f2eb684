"""Data written into a real Prometheus, and queries answered by it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import cramjam
import httpx

from connectors.remote_write import MESSAGES
from engine.core.labels import encode
from tests.real_promql.series import Series

Answer = dict[bytes, float] | float | None
"""A vector, a scalar, or None for an error."""

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


def query(client: httpx.Client, text: str, at_ms: int) -> tuple[Answer, str]:
    """What Prometheus answers, and its error if that is what it answers."""
    response = client.post("/api/v1/query", data={"query": text, "time": f"{at_ms / 1000:.3f}"})
    answer = response.json()
    if answer["status"] != "success":
        return None, answer["error"]
    result = answer["data"]["result"]
    if answer["data"]["resultType"] == "scalar":
        return float(result[1]), ""
    return {encode(sample["metric"]): float(sample["value"][1]) for sample in result}, ""
