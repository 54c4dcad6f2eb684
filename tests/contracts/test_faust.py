"""What Sentinel asks of Faust on a broker: agents read, and a table comes back from its changelog after a restart."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
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


async def reach(told: asyncio.StreamReader, wanted: dict[str, int], folder: Path) -> None:
    """Read until the app tells what is wanted; fails with its log when it does not."""
    last = b""
    try:
        async with asyncio.timeout(REACH_TIMEOUT_S):
            while line := await told.readline():
                last = line
                _, brace, rest = line.partition(b"{")  # Faust writes its banner and cursor codes before it
                if brace and json.loads(brace + rest) == wanted:
                    return
    except TimeoutError:
        pass
    raise AssertionError(f"last told: {last!r}\n{(folder / 'worker.log').read_text()[-3000:]}")


@both()
async def test_a_worker_that_starts_again_has_its_table_and_reads_nothing_twice(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.url, compression_type="lz4")
    await producer.start()
    try:
        for i in range(MESSAGES):
            await producer.send(topic, b"value", key=b"key-%d" % (i % 17))
    finally:
        await producer.stop()
    for name, seen in (("first", MESSAGES), ("second", 0)):
        folder = new_folder(tmp_path, name)
        async with worker(broker, topic, folder) as told:
            await reach(told, {"seen": seen, "counted": MESSAGES}, folder)
