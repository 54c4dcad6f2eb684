"""A Kafka that cannot be used is refused at the start, with the setting and what to do."""

from __future__ import annotations

import socket

import pytest

from engine.edge import broker
from engine.edge.broker import BrokerError, ensure_topics
from engine.edge.settings import KafkaSettings
from engine.flow import TOPICS
from tests.edge.conftest import Site


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ("127.0.0.1:1", "no broker answers there"),
        ("nobody.invalid:9092", "no broker answers there"),
        ("127.0.0.1:port", "not host:port"),
    ],
)
async def test_an_address_where_no_kafka_is(servers: str, says: str) -> None:
    with pytest.raises(BrokerError, match=rf"{servers} \(setting kafka\.url\): .*{says}"):
        await ensure_topics(KafkaSettings(url=servers), servers, TOPICS)


async def test_an_address_that_takes_connections_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "START_TIMEOUT_S", 0.3)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BrokerError, match=r"no answer within 0\.3 s"):
            await ensure_topics(KafkaSettings(url=servers), servers, TOPICS)


async def test_topics_that_are_there_with_as_many_partitions_are_used(site: Site) -> None:
    await ensure_topics(site.settings.kafka, site.bootstrap, TOPICS)


async def test_topics_with_another_number_of_partitions_are_refused(site: Site) -> None:
    kafka = site.settings.kafka.model_copy(update={"partitions": 8})
    with pytest.raises(BrokerError, match=r"has 4 partitions, but kafka\.partitions is 8: set kafka\.partitions to 4"):
        await ensure_topics(kafka, site.bootstrap, TOPICS)
