"""One real Kafka and one embedded broker for the whole run, behind one fixture."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from engine.edge.broker import open_broker
from engine.edge.settings import KafkaSettings
from tests.parts import running_kafka

Kind = Literal["embedded", "kafka"]


@dataclass(frozen=True)
class Broker:
    """A running broker: which kind it is, and its bootstrap servers."""

    kind: Kind
    url: str


def both(embedded_differs: str = "") -> pytest.MarkDecorator:
    """Run a test against both brokers; with a reason, the embedded one is known not to hold it."""
    marks = [pytest.mark.xfail(reason=embedded_differs, strict=True)] if embedded_differs else []
    brokers = [pytest.param("embedded", marks=marks), pytest.param("kafka", marks=pytest.mark.real)]
    return pytest.mark.parametrize("broker", brokers, indirect=True)


only_kafka = pytest.mark.parametrize("broker", [pytest.param("kafka", marks=pytest.mark.real)], indirect=True)


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if request.param == "kafka":
        with running_kafka(tmp_path_factory.mktemp("kafka")) as kafka:
            yield Broker("kafka", kafka.url)
        return
    with asyncio.Runner() as runner:
        embedded = open_broker(KafkaSettings())
        yield Broker("embedded", runner.run(embedded.__aenter__()))
        runner.run(embedded.__aexit__(None, None, None))


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic that no other test uses."""
    return re.sub(r"\W+", "-", request.node.name)
