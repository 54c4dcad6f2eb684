"""Puts the world together, once for the nine alerts, and takes it apart again, whatever happened in between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from engine.edge.database import url_of
from tests.cluster import Cluster
from tests.docker_engine import DockerEngine
from tests.nine import scenery, shop
from tests.nine.container import SERVICE, Container
from tests.nine.gateway import Gateway
from tests.nine.kms import Kms, running_kms
from tests.nine.people import reachable
from tests.nine.settings import Places, settings_of
from tests.nine.shortened import FACTOR, shorten
from tests.nine.signatures import KEY_VARIABLE, Signatures
from tests.nine.town import NAMESPACE, Town
from tests.nine.world import ROOT, World, own_environment
from tests.parts import Loki, Prometheus, free_ports, require, running_kafka, running_loki
from tests.postgresql import running_postgresql

PROCESSES = {"act": "executor", "take": "connectors,router,evaluator", "decide": "responder,notifier,console"}
_DATABASE = "nine_alerts"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    postgres_url: str, cluster: Cluster, docker: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """The world, with Sentinel's three processes ready in it."""
    for part in ("kafka", "prometheus-3", "loki", "postgresql"):
        require(part)
    folder = tmp_path_factory.mktemp("nine")
    async with AsyncExitStack() as stack:
        kms = stack.enter_context(running_kms(folder))
        places = await _parts(stack, folder, postgres_url, cluster, docker, kms)
        town = Town(cluster, places.shop_url, places.loki_url, folder / "targets.json")
        pools = [await _pool(stack, url_of(places.shop_url, name)) for name in ("aureus_os", "bridge")]
        world = World(
            folder=folder,
            cluster=cluster,
            town=town,
            kafka_url=places.kafka_url,
            database=await _pool(stack, places.database_url),
            shop_url=places.shop_url,
            gateway=Gateway(town, pools[0]),
            signatures=Signatures(town, pools[1], kms.admin),
            kms=kms,
            container=Container(town, docker, folder),
            people=await stack.enter_async_context(reachable(folder)),
            http=await stack.enter_async_context(httpx.AsyncClient(timeout=30)),
        )
        stack.callback(world.container.remove)
        address = await stack.enter_async_context(town.living())
        _watch(stack, folder, address, places)
        stack.callback(lambda: [connection.terminate() for connection in world.leaked])
        stack.callback(lambda: [program.kill() for program in world.programs.values()])
        world.settings = settings_of(places, address, folder, world.people.settings())
        await _permit(world, places)
        policy = json.loads(await world.sentinel("permissions", "--format", "aws", process="act"))
        world.environments["act"] = {
            **(kms.user("executor", policy) if policy["Statement"] else {}),
            **docker.environment,
        }
        await world.start(PROCESSES)
        await world.when(world.is_calm, "no alert before anything is done", 60)
        yield world


async def _pool(stack: AsyncExitStack, url: str) -> asyncpg.Pool:
    pool = await asyncpg.create_pool(url, min_size=1, max_size=3)
    stack.callback(pool.terminate)
    return pool


async def _parts(
    stack: AsyncExitStack, folder: Path, postgres_url: str, cluster: Cluster, docker: DockerEngine, kms: Kms
) -> Places:
    """Kafka, Loki and PostgreSQL run, the cluster and the databases hold what the seed has, keys are made."""
    for name in ("kafka", "loki", "keys"):
        (folder / name).mkdir()
    kafka = stack.enter_context(running_kafka(folder / "kafka"))
    loki: Loki = stack.enter_context(running_loki(folder / "loki"))
    shop_url = stack.enter_context(running_postgresql(folder, shop.SETTINGS))
    await shop.build(shop_url)
    scenery.build(cluster, {KEY_VARIABLE: kms.first_key})
    stack.callback(scenery.clear, cluster)
    rules = shorten(ROOT / "rules", folder / "rules", FACTOR)
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"create database {_DATABASE}")
    await server.close()
    _sentinel("keys", "generate", "-o", str(folder / "keys"))
    return Places(
        kafka_url=kafka.url,
        loki_url=loki.url,
        database_url=url_of(postgres_url, _DATABASE),
        shop_url=shop_url,
        kms_url=kms.url,
        docker_url=docker.url,
        compose=folder / "compose.yml",
        keys=folder / "keys",
        rules=rules,
        executor_kubeconfig=cluster.kubeconfig(cluster.account(scenery.OWN_NAMESPACE, "executor")),
        responder_kubeconfig=cluster.kubeconfig(cluster.account(scenery.OWN_NAMESPACE, "responder")),
        ports=dict(zip(PROCESSES, free_ports(len(PROCESSES)), strict=True)),
    )


def _watch(stack: AsyncExitStack, folder: Path, address: str, places: Places) -> None:
    """A Prometheus that reads every page once a second and writes what it reads to Sentinel."""
    others = [
        {
            "job_name": job,
            "metrics_path": f"/{what}/metrics",
            "honor_labels": True,
            "static_configs": [{"targets": [address], "labels": labels}],
        }
        for job, what, labels in (
            ("kube-state-metrics", "state", {}),
            ("kubelet", "kubelet", {}),
            ("postgres", "postgres", {"service": "postgres", "namespace": "aureus"}),
            (SERVICE, "compose", {"service": SERVICE, "namespace": "aureus", "runtime": "compose"}),
        )
    ]
    pods = {
        "job_name": "pods",
        "file_sd_configs": [{"files": [str(folder / "targets.json")], "refresh_interval": "1s"}],
    }
    queue = {"batch_send_deadline": "200ms", "max_shards": 1, "min_shards": 1}
    url = f"http://127.0.0.1:{places.ports['take']}/api/v1/write?source=prometheus"
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [pods, *others],
        "remote_write": [{"url": url, "queue_config": queue}],
    }
    at_once = ["--scrape.discovery-reload-interval=500ms"]  # a pod that is gone is not scraped for another 5 s
    prometheus = Prometheus(folder, json.dumps(config), at_once, part="prometheus-3")
    stack.callback(prometheus.stop)
    prometheus.start()
    places.prometheus_url = prometheus.url


async def _permit(world: World, places: Places) -> None:
    """Give executor and responder what `sentinel permissions` prints, and nothing more."""
    for name, tree in world.settings.items():
        (world.folder / f"{name}.yml").write_text(json.dumps(tree), encoding="utf-8")
    accounts = f"{scenery.OWN_NAMESPACE}/executor,responder"
    asked = ("permissions", "--format", "yaml", "--namespace", NAMESPACE, "--account", accounts)
    manifests = await world.sentinel(*asked, process="act")
    scenery.apply(world.cluster, manifests)
    databases = json.dumps(world.settings["decide"]["responder"]["databases"])
    known = ("--set", f"responder.databases={databases}")  # else known to the responder's process alone
    grants = await world.sentinel("permissions", "--format", "sql", *known, process="act")
    await shop.grant(places.shop_url, grants)


def _sentinel(*arguments: str) -> None:
    command = [sys.executable, "-m", "engine.cli", *arguments]
    subprocess.run(command, env=own_environment(), check=True, capture_output=True)  # noqa: S603  # our program
