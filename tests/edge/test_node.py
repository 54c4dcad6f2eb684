"""The life of a process: how it refuses to start, and how it ends when one of its parts does."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import pytest

from engine.edge import runtime
from engine.edge.node import Node, NodeError, running
from engine.edge.settings import Settings
from engine.loading import Loaded
from tests.edge.conftest import Site


async def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings.model_validate({"http": {"listen": listen}, "kafka": {"url": "kafka://127.0.0.1:1"}})
        with pytest.raises(
            NodeError, match=rf"cannot listen on {listen} \(setting http\.listen\): Address already in use"
        ):
            async with running(settings, ["router"], Loaded()):
                pass


@pytest.fixture
async def node(site: Site) -> Node:
    return Node(site.settings, Loaded(), site.bootstrap, None, AsyncExitStack())


async def test_a_part_that_fails_ends_the_process_with_its_reason(node: Node) -> None:
    async def work() -> None:
        raise ValueError("broken")

    node.spawn("scraper", work())
    with pytest.raises(NodeError, match="scraper failed: ValueError: broken"):
        await node.run(asyncio.Event().wait())


async def test_a_process_that_is_told_to_stop_has_not_failed(node: Node) -> None:
    stop = asyncio.Event()
    stop.set()
    await node.run(stop.wait())


async def test_of_two_reasons_to_end_the_first_counts(node: Node) -> None:
    node.fail("first")
    node.fail("second")
    with pytest.raises(NodeError, match="first"):
        await node.run(asyncio.Event().wait())


async def test_a_role_without_a_database_cannot_ask_for_one(node: Node) -> None:
    with pytest.raises(NodeError, match="needs a database"):
        node.need_database()


async def test_a_running_process_is_found_by_its_state_folder_and_leaves_none_behind(site: Site) -> None:
    async with running(site.settings, ["connectors"], Loaded()) as node:
        found = runtime.find(site.settings.state_dir)
        assert found is not None
        assert (found.http_url, found.kafka_url) == (node.http_url, f"kafka://{site.bootstrap}")
    assert runtime.find(site.settings.state_dir) is None
