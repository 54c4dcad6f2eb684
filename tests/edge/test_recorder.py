"""What stands on the topics is recorded, in the order of each partition, and a hole is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.bundle import BundleReader
from engine.edge.recorder import RecordingGapError, open_recorder
from engine.flow import DEAD_LETTER, LOGS, METRICS, OUTCOMES
from tests.edge.conftest import Site
from tests.test_bundle import MANIFEST


async def test_everything_written_before_catching_up_is_in_the_bundle(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "a.sentinel"
    wanted = []
    async with open_recorder(site.settings.kafka, site.bootstrap, path, MANIFEST) as recorder:
        for number in range(30):
            topic = (METRICS, LOGS, OUTCOMES)[number % 3]
            value = b'{"n":%d}' % number
            wanted.append((topic.name, *await site.put(topic, value, key=b"%d" % (number % 5)), value))
        await site.put(DEAD_LETTER, b"{}")
        await recorder.catch_up()
    with BundleReader(path) as reader:
        found = [(one.topic, one.partition, one.offset, one.content) for one in reader.messages()]
    assert sorted(found) == sorted(wanted)
    for place in {(name, partition) for name, partition, *_ in wanted}:
        offsets = [offset for name, partition, offset, _ in found if (name, partition) == place]
        assert offsets == list(range(len(offsets)))


async def test_messages_that_were_gone_before_they_could_be_recorded_are_an_error(site: Site, tmp_path: Path) -> None:
    for _ in range(8):  # the embedded broker keeps 5 MB
        await site.put(LOGS, os.urandom(900_000))
    opening = open_recorder(site.settings.kafka, site.bootstrap, tmp_path / "a.sentinel", MANIFEST)
    with pytest.raises(RecordingGapError, match=r"offsets 0 to \d+ were gone"):
        async with opening as recorder:
            await recorder.catch_up()
