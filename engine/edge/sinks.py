"""The role `sinks`: other systems are told of alerts and recorded series. Each part is off unless configured."""

from __future__ import annotations

from functools import partial

from engine.core.messages import DeadLetter, encode
from engine.edge.alertmanager_sink import AlertmanagerSink
from engine.edge.health import CheckResult
from engine.edge.node import Node
from engine.edge.remote_write_sink import RemoteWriter
from engine.edge.sender import Sender, open_sender
from engine.edge.settings import RemoteWriteSink
from engine.edge.sink_http import open_receiver
from engine.flow import DEAD_LETTER
from engine.sinks.alertmanager import Policy
from engine.sinks.remote_write import Packer


async def start_sinks(node: Node) -> None:
    """`alerts` -> Alertmanagers; `recorded` -> receivers of remote write."""
    settings = node.settings.sinks
    if settings.alertmanagers:
        await _start_alertmanagers(node)
    if settings.remote_write:
        send = await node.stack.enter_async_context(open_sender(node.settings.kafka, node.bootstrap))
        for one in settings.remote_write:
            await _start_remote_write(node, one, send)
    if not settings.alertmanagers and not settings.remote_write:
        node.health.ready["sinks"] = _nothing_to_do


async def _start_alertmanagers(node: Node) -> None:
    settings = node.settings
    receivers = [
        await node.stack.enter_async_context(
            open_receiver("alertmanager", f"{one.url.rstrip('/')}/api/v2/alerts", one, (node.telemetry, node.clock))
        )
        for one in settings.sinks.alertmanagers
    ]
    policy = Policy(
        resend_ms=round(settings.sinks.resend_interval_s * 1000),
        external_labels=settings.rules.external_labels,
        generator_url=f"{(settings.http.external_url or node.http_url).rstrip('/')}/",
    )
    sink = AlertmanagerSink(settings.kafka, node.bootstrap, receivers, policy)
    await node.stack.enter_async_context(sink)
    node.health.ready["alertmanager"] = partial(_has_caught_up, sink)
    node.parts["alertmanager"] = sink
    node.spawn("alertmanager", sink.run())


async def _start_remote_write(node: Node, one: RemoteWriteSink, send: Sender) -> None:
    async def bury(letter: DeadLetter) -> None:
        node.telemetry.dead_letters.labels(letter.topic, letter.reason.split(":")[0]).inc()
        await send(DEAD_LETTER.name, letter.topic.encode(), encode(letter))

    receiver = await node.stack.enter_async_context(
        open_receiver("remote_write", one.url, one, (node.telemetry, node.clock))
    )
    packer = Packer(node.settings.rules.external_labels)
    writer = RemoteWriter((node.settings.kafka, one), node.bootstrap, receiver, packer, bury)
    await node.stack.enter_async_context(writer)
    name = f"remote-write-{one.name}"
    node.health.ready[name] = partial(_has_partitions, writer)
    node.parts[name] = writer
    node.spawn(name, writer.run())


async def _nothing_to_do() -> CheckResult:
    return CheckResult(True, "nothing is configured under `sinks`")


async def _has_caught_up(sink: AlertmanagerSink) -> CheckResult:
    if not sink.has_caught_up.is_set():
        return CheckResult(False, "has not read the alerts of before the start yet")
    return CheckResult(True, f"{len(sink.book)} alerts")


async def _has_partitions(writer: RemoteWriter) -> CheckResult:
    return CheckResult(writer.partitions > 0, f"{writer.partitions} partitions assigned")
