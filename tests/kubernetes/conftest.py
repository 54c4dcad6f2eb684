"""One real cluster for all tests of this folder, each in a namespace of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from engine.actions import Environment
from engine.edge.kubernetes import open_kubernetes
from tests.cluster import Cluster, manifest

APPS = "/apis/apps/v1/namespaces"


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    return cluster.namespace()


@asynccontextmanager
async def environment_of(cluster: Cluster, kubeconfig: Path) -> AsyncIterator[Environment]:
    """What an executor with this kubeconfig may use."""
    async with httpx.AsyncClient() as http, open_kubernetes(kubeconfig, "", 10.0) as api:
        yield Environment({}, {}, http, asyncpg.connect, _soon, kubernetes=api, command="command-1")


async def _soon(duration_s: float) -> None:
    """Controllers here need milliseconds: a check that asks once a second asks twenty times a second."""
    await asyncio.sleep(duration_s / 20)


@pytest.fixture
async def env(cluster: Cluster) -> AsyncIterator[Environment]:
    async with environment_of(cluster, cluster.kubeconfig()) as made:
        yield made


Workload = Callable[..., str]


@pytest.fixture
def deployment(cluster: Cluster, namespace: str) -> Workload:
    """Make a Deployment whose pods are ready; the name of it as a target."""

    def make(name: str = "app", replicas: int = 2, **spec: Any) -> str:
        cluster.create(f"{APPS}/{namespace}/deployments", manifest(name, replicas=replicas, **spec))
        cluster.settled(f"{APPS}/{namespace}/deployments/{name}")
        return f"{namespace}/deployment/{name}"

    return make


def path_of(target: str) -> str:
    """Where the API has a workload."""
    namespace, kind, name = target.split("/")
    return f"{APPS}/{namespace}/{kind}s/{name}"
