"""The sinks and the programs they speak with: Debian's Alertmanager and Prometheus."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from engine.core import labels as label_sets
from engine.core.messages import encode
from engine.core.router import Router
from engine.core.step import Shard
from engine.edge.node import running
from engine.edge.settings import Settings
from engine.flow import RULE_INPUTS
from engine.loading import load_texts
from engine.sinks.remote_write import samples_of
from tests.core.builders import batch
from tests.e2e.shop import ready
from tests.edge.conftest import Site
from tests.edge.test_sinks import remote_write, say, sinks, value_of
from tests.parts import free_ports, running_alertmanager, running_kafka, running_prometheus
from tests.sinks.test_alertmanager import transition
from tests.waiting import until

pytestmark = pytest.mark.real

EMPTY = "scrape_configs: []\n"
RECEIVER = ["--web.enable-remote-write-receiver"]


async def alerts_at(url: str) -> dict[str, dict[str, Any]]:
    async with httpx.AsyncClient() as client:
        found = (await client.get(f"{url}/api/v2/alerts")).json()
    return {alert["labels"]["alertname"]: alert for alert in found}


async def test_an_alertmanager_shows_an_alert_keeps_it_and_lets_it_go(site: Site, tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)

    async def shows(url: str, *names: str) -> bool:
        return set(await alerts_at(url)) == set(names)

    with running_alertmanager(tmp_path) as url:
        target = {"alertmanagers": [{"url": url}], "resend_interval_s": 0.5}
        async with sinks(site, **target):
            await say(site, transition("A", "firing", now_ms), transition("B", "firing", now_ms))
            await until(lambda: shows(url, "A", "B"))
            first = (await alerts_at(url))["A"]
            assert first["annotations"] == {"summary": "A firing"}
            # Said once, it would be over after two seconds: four times the interval.
            await until(lambda: _moved(url, first, by_s=3))
            await say(site, transition("A", "resolved", now_ms + 100, "cleared"))
            await until(lambda: shows(url, "B"))
        async with sinks(site, **target):
            await until(lambda: _moved(url, first, by_s=6, name="B"))
            assert await shows(url, "B")
        await until(lambda: shows(url))  # nobody is left to say that it fires


async def _moved(url: str, first: dict[str, Any], by_s: float, name: str = "A") -> bool:
    """Whether an alert is said to end so much later than at first."""
    alert = (await alerts_at(url)).get(name)
    return alert is not None and _ends_s(alert) >= _ends_s(first) + by_s


def _ends_s(alert: dict[str, Any]) -> float:
    return datetime.fromisoformat(alert["endsAt"]).timestamp()


async def test_an_alertmanager_that_was_away_hears_of_what_fires(site: Site, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    now_ms = int(time.time() * 1000)
    async with sinks(site, alertmanagers=[{"url": url}]):
        await say(site, transition("A", "firing", now_ms), transition("B", "firing", now_ms))
        await say(site, transition("A", "resolved", now_ms + 1, "cleared"))
        with running_alertmanager(tmp_path, port):

            async def knows() -> bool:
                return set(await alerts_at(url)) == {"B"}

            await until(knows)


RECORDING = """
groups:
  - name: shop
    interval: 1s
    rules:
      - {record: "job:requests:rate5s", expr: "sum by (job) (rate(requests_total[5s]))", labels: {kind: recorded}}
      - {alert: Busy, expr: "job:requests:rate5s > 15"}
"""


async def test_recorded_series_and_alerts_can_be_queried_in_prometheus_with_the_same_values(
    site: Site, tmp_path: Path
) -> None:
    loaded = load_texts({"promql/shop.yml": RECORDING})
    start_ms = int(time.time()) * 1000 - 60_000
    with running_prometheus(tmp_path, EMPTY, RECEIVER) as url:
        sink = {"remote_write": [{"url": f"{url}/api/v1/write"}]}
        tree = site.settings.model_dump(mode="json") | {"sinks": sink}
        tree["rules"]["external_labels"] = {"cluster": "c1"}
        async with running(Settings.model_validate(tree), ["evaluator", "sinks"], loaded) as node:
            await ready(node)
            router, own = Router(loaded.groups, 8), Shard(loaded.groups, node.step_config)
            recorded = []
            for second in range(30):
                at_ms = start_ms + second * 1000
                rate = 10 if second < 15 else 20
                points = [(f"requests_total{{job={job}}}", at_ms, float(second * rate)) for job in ("a", "b")]
                for message in router.route(batch("s", second + 1, at_ms + 1, points if second < 25 else [])):
                    recorded += own.step(message).recorded
                    await site.put(RULE_INPUTS, encode(message), key=str(message.shard).encode())
            expected: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for one in recorded:
                for key, t_ms, value in samples_of(one):
                    if value == value:  # no staleness marker: Prometheus shows none
                        expected.setdefault(_series(key), []).append((t_ms / 1000, value))

            async def same() -> bool:
                return await _held(url, start_ms) == expected

            await until(same)
        assert {name for name, _ in expected} == {"job:requests:rate5s", "ALERTS", "ALERTS_FOR_STATE"}
        gone_s = (start_ms + 29_900) / 1000
        async with httpx.AsyncClient() as client:
            now = await client.get(f"{url}/api/v1/query", params={"query": '{kind="recorded"}', "time": str(gone_s)})
        assert now.json()["data"]["result"] == []  # marked as ended, not left to the lookback


def _series(key: bytes) -> tuple[str, str]:
    labels = label_sets.decode(key)
    return labels.pop("__name__"), str(sorted({**labels, "cluster": "c1"}.items()))


async def _held(url: str, start_ms: int) -> dict[tuple[str, str], list[tuple[float, float]]]:
    found = {}
    async with httpx.AsyncClient() as client:
        query = {"query": '{cluster="c1"}[2m]', "time": str(start_ms / 1000 + 60)}
        answer = (await client.get(f"{url}/api/v1/query", params=query)).json()
    for series in answer["data"]["result"]:
        name = series["metric"].pop("__name__")
        found[name, str(sorted(series["metric"].items()))] = [(t_s, float(text)) for t_s, text in series["values"]]
    return found


@pytest.mark.timeout(180)
async def test_two_processes_share_the_partitions_and_when_one_ends_the_other_goes_on(tmp_path: Path) -> None:
    """
    first    |======================|            what it had not sent, the second sends
    second         |=====================|
    recorded   ..  .. .. .. .. ..   .. ..
    """
    for name in ("kafka", "one", "two"):
        (tmp_path / name).mkdir()
    with running_kafka(tmp_path / "kafka") as kafka:
        async with remote_write() as receiver, AsyncExitStack() as stack:
            tree = {
                "kafka": {"url": f"kafka://{kafka.url}", "session_timeout_s": 6},
                "http": {"listen": "127.0.0.1:0"},
                "sinks": {"remote_write": [{"url": f"{receiver.url}/write", "max_samples": 3}]},
            }
            settings = [
                Settings.model_validate({**tree, "instance": name, "state_dir": tmp_path / name})
                for name in ("one", "two")
            ]
            first = running(settings[0], ["sinks"], load_texts({}))
            nodes = [await first.__aenter__()]
            await ready(nodes[0])
            producer = AIOKafkaProducer(bootstrap_servers=kafka.url)
            await producer.start()
            stack.push_async_callback(producer.stop)
            sent = 0

            async def record(count: int) -> None:
                nonlocal sent
                for _ in range(count):
                    sent += 1
                    for group in "abcdefgh":
                        one = batch(f"rules/{group}", 1, 0, [(f"x{{group={group}}}", sent, float(sent))])
                        await producer.send_and_wait("sentinel-recorded", encode(one), key=one.source.encode())

            await record(5)
            nodes.append(await stack.enter_async_context(running(settings[1], ["sinks"], load_texts({}))))
            await ready(nodes[1])
            await record(20)
            await first.__aexit__(None, None, None)
            await record(5)

            def everything_arrived() -> bool:
                return len({(key, t_ms) for key, t_ms, _ in receiver.taken}) == 8 * 30

            await until(everything_arrived, timeout_s=60)
            own = {"sink": "remote_write", "target": f"{receiver.url}/write"}
            assert all(value_of(node, "sentinel_sink_sent_total", **own) > 0 for node in nodes)
            for group in "abcdefgh":
                times = [t_ms for key, t_ms, _ in receiver.taken if f'"{group}"'.encode() in key]
                newest = [max(times[: number + 1]) for number in range(len(times))]
                assert sorted(set(times)) == list(range(1, 31))
                assert sorted(set(newest)) == list(range(1, 31)), "a newer sample overtook an older one"
