"""The Kafka that Sentinel meets on: a URL from the settings, or the embedded broker.

The embedded broker is librdkafka's own cluster, in this process: the real protocol on a loopback port, nothing to
install. It is for trying and testing: it forgets everything when the process ends, keeps about 5 MB of compressed
messages a partition, serves one worker of a role, and has no CreateTopics. The program says so when it starts one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError
from confluent_kafka import Producer

from engine.edge.settings import KafkaSettings
from engine.flow import Topic

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 15
EMBEDDED_FETCH_WAIT_MS = 10


class BrokerError(Exception):
    """The broker cannot be used as configured; names the setting and what to do."""


@asynccontextmanager
async def open_broker(settings: KafkaSettings) -> AsyncIterator[str]:
    """The bootstrap servers to use ("host:port,..."), from an embedded broker where no URL is set."""
    if settings.url:
        yield settings.url.removeprefix("kafka://")
        return
    producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1, "log_level": 0})
    cluster = await asyncio.to_thread(producer.list_topics, timeout=START_TIMEOUT_S)
    bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in cluster.brokers.values())
    log.warning(
        "broker.embedded",
        bootstrap=bootstrap,
        note="for trying and testing: forgets everything at the end; set kafka.url for production",
    )
    yield bootstrap
    producer.flush(0)  # the cluster lives as long as its producer


def fetch_wait_ms(settings: KafkaSettings) -> int:
    """How long an empty fetch may wait. The embedded broker holds it for all of that time even when data arrives."""
    return settings.fetch_wait_ms if settings.url else min(settings.fetch_wait_ms, EMBEDDED_FETCH_WAIT_MS)


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """How aiokafka's clients authenticate, from the settings."""
    security = settings.security
    options: dict[str, Any] = {"security_protocol": security.protocol}
    if security.protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = ssl_context(settings)
    if security.protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": security.sasl_mechanism,
            "sasl_plain_username": security.sasl_username,
            "sasl_plain_password": security.sasl_password.get_secret_value(),
        }
    return options


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """The TLS context that the security settings describe."""
    security = settings.security
    context = ssl.create_default_context(cafile=str(security.ca_file) if security.ca_file else None)
    if security.cert_file and security.key_file:
        context.load_cert_chain(security.cert_file, security.key_file)
    return context


async def ensure_topics(settings: KafkaSettings, bootstrap: str, topics: Iterable[Topic]) -> None:
    """Create the topics that are missing and check the partitions of those that are there. Raises `BrokerError`.

    The embedded broker has no CreateTopics: it makes a topic when it is asked about it, all with as many partitions.
    """
    if not settings.url:
        await asyncio.to_thread(_ask_for, bootstrap, [settings.topic_prefix + topic.name for topic in topics])
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **client_options(settings))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await admin.start()
    except (KafkaError, TimeoutError, OSError, ValueError) as error:
        await admin.close()
        reason = f"no answer within {START_TIMEOUT_S} s" if isinstance(error, TimeoutError) else str(error)
        if isinstance(error, KafkaConnectionError):
            reason = "no broker answers there"
        elif isinstance(error, ValueError):
            reason = f"that is not host:port[,host:port] ({error})"
        raise BrokerError(f"cannot reach Kafka at {bootstrap} (setting kafka.url): {reason}") from error
    try:
        await _create(admin, settings, {settings.topic_prefix + topic.name: topic for topic in topics})
    except KafkaError as error:
        raise BrokerError(f"cannot look after the topics at {bootstrap} (setting kafka.url): {error}") from error
    finally:
        await admin.close()


def _ask_for(bootstrap: str, names: Iterable[str]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for name in names:
        producer.list_topics(name, timeout=START_TIMEOUT_S)


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, wanted: dict[str, Topic]) -> None:
    missing = sorted(set(wanted) - set(await admin.list_topics()))
    for name in missing:
        new = NewTopic(name, settings.partitions, settings.replication, topic_configs=_config(settings, wanted[name]))
        try:
            answer = await admin.create_topics([new])
        except TopicAlreadyExistsError:
            continue  # another role was faster
        for _, code, *message in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise BrokerError(
                    f"cannot create topic {name} with {settings.partitions} partitions and replication "
                    f"{settings.replication}: error {code} {' '.join(str(part) for part in message)}; "
                    "create it yourself, or let this user do it"
                )
        log.info("broker.topic_created", topic=name, partitions=settings.partitions)
    await _check_partitions(admin, settings, sorted(set(wanted) - set(missing)))


async def _check_partitions(admin: AIOKafkaAdminClient, settings: KafkaSettings, names: list[str]) -> None:
    if not names:
        return
    for found in await admin.describe_topics(names):
        count = len(found["partitions"])
        if count != settings.partitions:
            raise BrokerError(
                f"topic {found['topic']} has {count} partitions, but kafka.partitions is {settings.partitions}: "
                f"set kafka.partitions to {count}, or choose another kafka.topic_prefix"
            )


def _config(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    if topic.compacted:
        return {"cleanup.policy": "compact"}
    return {"cleanup.policy": "delete", "retention.ms": str(settings.retention_hours * 3_600_000)}
