"""What Sentinel asks of Faust on a broker: agents read, and a table comes back from its changelog after a restart."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from tests.contracts.conftest import Broker, both

APP = Path(__file__).with_name("counting_app.py")
MESSAGES = 500
REACH_TIMEOUT_S = 60


def new_folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


@asynccontextmanager
async def worker(broker: Broker, topic: str, folder: Path) -> AsyncIterator[asyncio.StreamReader]:
    """The counting app as a process of its own; yields what it tells, and stops it in good order."""
    declare = "declare" if broker.kind == "kafka" else "-"
    with (folder / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, APP, broker.url, topic, folder, declare, stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.terminate()
        await process.communicate()


async def reach(told: asyncio.StreamReader, wanted: Callable[[int, int], bool], folder: Path) -> None:
    """Read until what the app tells (messages seen, counted in its table) is as wanted; else fails with its log."""
    last = b""
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            while line := await told.readline():
                last = line
                _, brace, rest = line.partition(b"{")  # Faust writes its banner and cursor codes before it
                if brace and wanted(**json.loads(brace + rest)):
                    return
    except TimeoutError:
        pass
    raise AssertionError(f"last told: {last!r}\n{(folder / 'worker.log').read_text()[-3000:]}")


@both()
async def test_a_worker_that_starts_again_has_its_table_and_counts_on_from_there(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.url, compression_type="lz4")
    await producer.start()
    try:
        for i in range(MESSAGES):
            await producer.send(topic, b"value", key=b"key-%d" % (i % 17))
    finally:
        await producer.stop()
    first, second = new_folder(tmp_path, "first"), new_folder(tmp_path, "second")
    async with worker(broker, topic, first) as told:
        await reach(told, lambda seen, counted: seen == counted == MESSAGES, first)
    # What was not committed at its end is read again (at least once): the table then counts that on top.
    async with worker(broker, topic, second) as told:
        await reach(told, lambda seen, counted: counted == MESSAGES + seen, second)
