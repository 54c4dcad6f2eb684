"""The query API answers as a real Prometheus does that holds the same samples."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.core.messages import MetricBatch, RuleInput
from engine.core.step import Shard
from engine.edge.query_api import QueryApi
from engine.sinks.remote_write import HEADERS, Packer, samples_of
from tests.core.builders import Point, batch, one_rule
from tests.parts import require, running_prometheus

pytestmark = pytest.mark.real

# Whole minutes, an hour ago. Samples lie a little beside them: at a range's very edges Prometheus 2 and 3 differ.
START_S = int(time.time()) // 600 * 600 - 3_600
END_S = START_S + 1_800


def points() -> list[Point]:
    found: list[Point] = []
    for number, t_ms in enumerate(range(START_S * 1000 + 7, END_S * 1000, 15_000)):
        for job, path, rate in (("a", "/", 1.5), ("a", "/b", 0.25), ("b", "/", 1e-9)):
            value = (number % 40) * rate * 15  # a counter that begins anew now and then
            found.append((f"requests_total{{job={job},path={path}}}", t_ms, value))
        if number < 60:
            found.append(("gone{job=c}", t_ms, float(number % 7) * 1e20))
        for le, share in (("0.1", 0.5), ("1", 0.9), ("+Inf", 1.0)):
            found.append((f"latency_seconds_bucket{{job=a,le={le}}}", t_ms, number * share))
    return found


@pytest.fixture(scope="module")
def held() -> MetricBatch:
    return batch("s", 1, END_S * 1000, points())


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, held: MetricBatch) -> Iterator[str]:
    flags = ["--web.enable-remote-write-receiver"]
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), "scrape_configs: []\n", flags) as url:
        sent = httpx.post(f"{url}/api/v1/write", content=Packer({}).body(samples_of(held)), headers=HEADERS)
        assert sent.status_code == 204, sent.text
        yield url


@pytest.fixture
async def sentinel(held: MetricBatch) -> AsyncIterator[str]:
    shard = Shard(one_rule("'count_over_time({__name__=~\".+\"}[1h]) > 1e9'"))
    shard.step(RuleInput(0, held))
    app = web.Application()
    app.add_routes(QueryApi({0: shard}, lambda: int(time.time() * 1000)).routes())
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


QUERIES = [
    "requests_total",
    'requests_total{job="a", path!="/"}',
    '{job=~"a|c"}',
    "rate(requests_total[5m])",
    "sum by (job) (increase(requests_total[3m]))",
    "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))",
    "topk(1, requests_total)",
    "gone",
    "absent(gone)",
    "max_over_time(rate(requests_total[2m])[250s:60s])",
    "requests_total offset 7m",
    "requests_total / on (job) group_left sum by (job) (requests_total)",
    "time() - 5",
    "1 / 0",
    "vector(1e-7) or vector(2)",
    "-requests_total * 1e20",
    'label_replace(requests_total, "new", "$1", "path", "/(.*)")',
    "requests_total > bool 3",
]


async def both(
    sentinel: str, prometheus: str, path: str, parameters: list[tuple[str, str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    answers = []
    async with httpx.AsyncClient() as client:
        for url in (sentinel, prometheus):
            response = await client.get(f"{url}/api/v1/{path}", params=parameters)
            answer = response.json()
            answers.append({"code": response.status_code, **{k: answer.get(k) for k in ("status", "errorType")}})
            answers[-1]["data"] = _sorted(answer.get("data"))
    return answers[0], answers[1]


def _sorted(data: Any) -> Any:
    if isinstance(data, dict) and data.get("resultType") in ("vector", "matrix"):
        return {**data, "result": sorted(data["result"], key=lambda one: sorted(one["metric"].items()))}
    if isinstance(data, list):
        return sorted(data, key=str)
    return data


@pytest.mark.parametrize("at_s", [START_S + 600, START_S + 1_234.5, END_S - 1])
@pytest.mark.parametrize("query", [*QUERIES, "requests_total[40s]", '"text"'])
async def test_an_instant_query(sentinel: str, prometheus: str, query: str, at_s: float) -> None:
    ours, theirs = await both(sentinel, prometheus, "query", [("query", query), ("time", str(at_s))])
    assert ours == _near(theirs, ours)


@pytest.mark.parametrize("step", ["30", "1m", "97.5"])
@pytest.mark.parametrize("query", QUERIES)
async def test_a_range_query(sentinel: str, prometheus: str, query: str, step: str) -> None:
    parameters = [("query", query), ("start", str(START_S + 600)), ("end", str(END_S - 1)), ("step", step)]
    ours, theirs = await both(sentinel, prometheus, "query_range", parameters)
    assert ours == _near(theirs, ours)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("labels", []),
        ("labels", [("match[]", 'requests_total{job="b"}')]),
        ("label/job/values", []),
        ("label/job/values", [("match[]", "gone"), ("match[]", "latency_seconds_bucket")]),
        ("label/__name__/values", []),
        ("label/nothing/values", []),
        ("series", [("match[]", '{job="a"}')]),
        ("series", [("match[]", "gone"), ("start", str(START_S)), ("end", str(END_S))]),
        ("series", [("match[]", "nothing")]),
        ("series", []),
        ("series", [("match[]", "rate(gone[1m])")]),
        ("query", []),
        ("query", [("query", "sum(")]),
        ("query", [("query", "1"), ("time", "noon")]),
        ("query", [("query", "requests_total + on (job) requests_total"), ("time", str(START_S + 600))]),
        ("query_range", [("query", "1"), ("start", "10"), ("end", "5"), ("step", "1")]),
        ("query_range", [("query", "1"), ("start", "1"), ("end", "5"), ("step", "-1")]),
        ("query_range", [("query", "1"), ("start", "0"), ("end", "11001"), ("step", "1")]),
        ("query_range", [("query", "1"), ("start", "0"), ("end", "11000"), ("step", "1")]),
        ("query_range", [("query", "gone[1m]"), ("start", "0"), ("end", "5"), ("step", "1")]),
        ("query_range", [("query", "1"), ("end", "5"), ("step", "1")]),
        ("metadata", []),
    ],
)
async def test_what_is_there_and_what_is_refused(
    sentinel: str, prometheus: str, path: str, parameters: list[tuple[str, str]]
) -> None:
    ours, theirs = await both(sentinel, prometheus, path, parameters)
    assert ours == theirs


@pytest.mark.parametrize(
    "arguments",
    [
        ["instant", "--time", str(START_S + 600), "URL", "sum by (job) (requests_total)"],
        ["range", "--start", str(START_S + 600), "--end", str(END_S - 1), "--step", "1m", "URL", "gone"],
        ["series", "--match", '{job="a"}', "URL"],
        ["labels", "URL", "job"],
    ],
    ids=lambda arguments: arguments[0],
)
async def test_promtool_is_told_the_same(sentinel: str, prometheus: str, arguments: list[str]) -> None:
    def ask(url: str) -> list[str]:
        command = [require("prometheus") / "promtool", "query", *(url if one == "URL" else one for one in arguments)]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  # our part
        assert (done.returncode, done.stderr) == (0, "")
        return sorted(done.stdout.splitlines())

    ours, theirs = await asyncio.to_thread(ask, sentinel), await asyncio.to_thread(ask, prometheus)
    assert ours == theirs
    assert ours


def _near(theirs: Any, ours: Any) -> Any:
    """What Prometheus answered, with our text where its number is the same up to the last digits of a float."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {key: _near(value, ours.get(key)) for key, value in theirs.items()}
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [_near(one, other) for one, other in zip(theirs, ours, strict=True)]
    if isinstance(theirs, str) and isinstance(ours, str) and theirs != ours:
        try:
            return ours if float(theirs) == pytest.approx(float(ours), rel=1e-12) and float(theirs) else theirs
        except ValueError:
            return theirs
    return theirs
