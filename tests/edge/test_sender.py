"""What one source sends is stored in the order of its calls, however many are on their way."""

from __future__ import annotations

import asyncio

from engine.edge.sender import open_sender
from engine.flow import LOGS
from tests.edge.conftest import Site


async def test_messages_of_one_key_keep_their_order(site: Site) -> None:
    filler = b"." * 2_000  # so that batches fill up while others wait
    async with open_sender(site.settings.kafka, site.bootstrap) as send:
        await asyncio.gather(*(send(LOGS.name, b"k%d" % (n % 2), b"%d %d" % (n % 2, n) + filler) for n in range(600)))
    stored = [value.rstrip(b".").split() for value in await site.read(LOGS)]
    for key in (b"0", b"1"):
        numbers = [int(number) for of, number in stored if of == key]
        assert numbers == sorted(numbers)
        assert len(numbers) == 300
