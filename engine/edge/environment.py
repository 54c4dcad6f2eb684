"""What the executor's actions may use, made from its settings: clients and allow-lists, and nothing of the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import asyncpg
import httpx

from engine.actions import Environment, HttpHost
from engine.edge.clock import Clock
from engine.edge.compose import ComposeProject
from engine.edge.kms import KmsClient
from engine.edge.kubernetes import open_kubernetes
from engine.edge.settings import ExecutorSettings, Host

connect = partial(asyncpg.connect, timeout=10, command_timeout=30)
"""A connection to a database that is watched or repaired; neither it nor a statement waits for ever."""


async def open_environment(settings: ExecutorSettings, stack: AsyncExitStack, clock: Clock) -> Environment:
    """The environment of actions; its clients are closed with the stack.

    Raises `KubernetesConfigError`, `KmsConfigError`, and `ValueError` for a token that is not in the environment.
    """
    cluster = settings.kubernetes
    reach = open_kubernetes(cluster.kubeconfig, cluster.context, cluster.timeout_s)
    return Environment(
        hosts=hosts_of(settings.hosts),
        databases=dict(settings.databases),
        http=await stack.enter_async_context(httpx.AsyncClient(follow_redirects=False, trust_env=False)),
        connect=connect,
        sleep=clock.sleep,
        kubernetes=await stack.enter_async_context(reach) if settings.namespaces else None,
        postgres_settings=frozenset(settings.postgres_settings),
        compose={
            name: ComposeProject(name, one.files, one.docker_host, os.environ) for name, one in settings.compose.items()
        },
        kms={name: KmsClient(one.alias, one.region, one.endpoint_url) for name, one in settings.kms.items()},
    )


def hosts_of(configured: Mapping[str, Host]) -> dict[str, HttpHost]:
    """HTTP services by name, with the token in force. Raises `ValueError` for one that is not in the environment."""
    return {name: HttpHost(host.url, host.bearer(os.environ)) for name, host in configured.items()}
