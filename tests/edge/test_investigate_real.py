"""Questions with values from outside to a real Loki and a real Prometheus: nothing in a value is read as a query.

```
a: the service asked about        b: another one, whose lines and series must never be seen
   its name is what an attacker would send: "} or vector(1) #, and worse
```
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import msgspec
import pytest

from engine.core import labels
from engine.edge.investigate import Investigator
from engine.edge.investigate.logql import Loki
from engine.response.binding import Bound
from engine.response.conditions import condition
from engine.response.model import Evidence, Investigate, LogqlQuery, PromqlQuery, Query
from engine.sinks.remote_write import HEADERS, Packer
from tests.parts import running_loki, running_prometheus
from tests.waiting import until

pytestmark = pytest.mark.real

NAMES = ('"} or vector(1) #', "plain", "back`tick", "a\\", 'quote"', "line\nbreak", ".*", "é\u2028\x01\x7f")
NOW_MS = int(time.time() * 1000) - 60_000
LINES = 5


@pytest.fixture(scope="module")
def loki_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_loki(tmp_path_factory.mktemp("loki")) as loki:
        streams = [
            {
                "stream": {"service": name, "kind": "app"},
                "values": [[str((NOW_MS - 1000 * n) * 1_000_000), f"line {n} of {name}"] for n in range(LINES)],
            }
            for name in (*NAMES, "other")
        ]
        body = msgspec.json.encode({"streams": streams})
        sent = httpx.post(f"{loki.url}/loki/api/v1/push", content=body, headers={"Content-Type": "application/json"})
        assert sent.status_code == 204, sent.text
        yield loki.url


@pytest.fixture(scope="module")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    flags = ["--web.enable-remote-write-receiver"]
    now_ms = int(time.time() * 1000)
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), "scrape_configs: []\n", flags) as url:
        series = [{"__name__": "up", "job": name} for name in (*NAMES, "other")]
        body = Packer({}).body([(labels.encode(one), now_ms, float(n)) for n, one in enumerate(series)])
        sent = httpx.post(f"{url}/api/v1/write", content=body, headers=HEADERS)
        assert sent.status_code == 204, sent.text
        yield url


async def find(query: Query, loki_url: str = "", query_url: str = "", max_rows: int = 100) -> Evidence:
    async with httpx.AsyncClient() as client:
        loki = Loki(loki_url, client) if loki_url else None
        investigator = Investigator(client, databases={}, hosts={}, query_url=query_url, loki=loki)
        return await investigator.find(Investigate(1, 1, "step", query, 10_000, max_rows), NOW_MS)


def filled(text: str, name: str) -> str:
    return Bound(text, {"service": condition("labels.service")}, "label").fill({"labels": {"service": name}})


@pytest.mark.parametrize("name", NAMES)
async def test_lines_are_those_of_the_service_newest_first(name: str, loki_url: str) -> None:
    query = LogqlQuery(filled("{service=$service}", name), True, 600_000, 100)
    found = await until(lambda: _lines(query, loki_url), what=f"the lines of {name!r}")
    assert [row["line"] for row in found.rows] == [f"line {n} of {name}" for n in range(LINES)]
    assert [row["time_ms"] for row in found.rows] == [NOW_MS - 1000 * n for n in range(LINES)]
    assert found.rows[0]["labels"] == {"service": name, "kind": "app"}
    few = await find(LogqlQuery(query.query, True, 600_000, 2), loki_url)
    assert (few.rows, few.truncated) == (found.rows[:2], True)
    young = await find(LogqlQuery(query.query, True, 1_500, 100), loki_url)
    assert (young.rows, young.truncated) == (found.rows[:2], False)


async def _lines(query: LogqlQuery, loki_url: str) -> Evidence | None:
    found = await find(query, loki_url)
    return found if len(found.rows) == LINES else None


@pytest.mark.parametrize("name", [name for name in NAMES if "\n" not in name])  # which no line holds
async def test_a_text_to_look_for_is_looked_for_as_it_is(name: str, loki_url: str) -> None:
    found = await find(LogqlQuery(filled('{kind="app"} |= $service', name), True, 600_000, 100), loki_url)
    assert {row["line"] for row in found.rows} >= {f"line {n} of {name}" for n in range(LINES)}
    assert all(name in str(row["line"]) for row in found.rows)


@pytest.mark.parametrize("name", NAMES)
async def test_a_metric_query_counts_the_services_lines_only(name: str, loki_url: str) -> None:
    query = filled("sum by (service) (count_over_time({service=$service}[10m]))", name)
    found = await find(LogqlQuery(query, False, 1, 1), loki_url)
    assert found.rows == [{"labels": {"service": name}, "value": float(LINES)}]


async def test_a_query_that_loki_refuses_says_why(loki_url: str) -> None:
    found = await find(LogqlQuery("{", True, 1_000, 1), loki_url)
    assert (found.ok, "parse error" in found.error) == (False, True)
    other = await find(LogqlQuery('{kind="app"}', False, 1_000, 1), loki_url)
    assert (other.ok, other.rows) == (False, [])


@pytest.mark.parametrize("name", NAMES)
async def test_a_vector_is_that_of_the_service(name: str, prometheus_url: str) -> None:
    found = await find(PromqlQuery(filled("up{job=$service}", name)), query_url=prometheus_url)
    assert (found.error, [row["labels"] for row in found.rows]) == ("", [{"__name__": "up", "job": name}])
    rest = await find(PromqlQuery(filled("count(up{job!=$service})", name)), query_url=prometheus_url)
    assert [row["value"] for row in rest.rows] == [float(len(NAMES))]


async def test_without_a_loki_nothing_is_known() -> None:
    found = await find(LogqlQuery("{}", True, 1, 1))
    assert (found.ok, found.error) == (False, "no responder.loki is set")
