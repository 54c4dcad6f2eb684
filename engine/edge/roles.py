"""How each role is put together from its parts. One function a role; `START` is what `flow.ROLES` names them by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import httpx
import structlog
from msgspec import structs

from connectors import discover
from engine.actions import load_actions
from engine.actions._needs import needs_of
from engine.actions._reads import reads_of
from engine.console.server import Console
from engine.core.messages import Command, SignedCommand, decode_outcome, decode_transition, encode
from engine.core.sources import SourceTiming
from engine.edge import control
from engine.edge.alert_receiver import AlertReceiver
from engine.edge.alerts_now import AlertsNow
from engine.edge.clock import DatabaseClock
from engine.edge.console_store import PostgresStore
from engine.edge.database import DATABASE_LOST
from engine.edge.environment import connect, hosts_of, open_environment
from engine.edge.evaluating import Evaluator
from engine.edge.executor import Executor, ExecutorSettings, MalformedCommandError
from engine.edge.faust_app import PoisonError, RoleApp, consume, decoded, open_app
from engine.edge.health import CheckResult
from engine.edge.http_access import open_client
from engine.edge.incident_series import SeriesKeeper
from engine.edge.incident_stats import StatsExporter
from engine.edge.incident_turns import ResponderConfig
from engine.edge.investigate import Cluster, Investigator, Loki
from engine.edge.keys import signing_key, trusted_keys
from engine.edge.kubernetes import open_kubernetes
from engine.edge.lacking import say_lacking_in_databases, say_lacking_on_cluster, say_what_is_lacking
from engine.edge.loki_client import LokiClient
from engine.edge.loki_reader import LokiReader
from engine.edge.node import Node
from engine.edge.notifier import start_notifier
from engine.edge.prometheus_api import PrometheusPoller
from engine.edge.publisher import ConnectorMetrics, Publisher, Send
from engine.edge.query_api import QueryApi
from engine.edge.receivers import Receivers
from engine.edge.responder import Responder
from engine.edge.routing import run_router
from engine.edge.rules_api import RulesApi
from engine.edge.scraper import Scraper
from engine.edge.sender import open_sender
from engine.edge.settings import Mode, Settings
from engine.edge.settings_sources import PushedLogs, RemoteWrite
from engine.edge.sink_http import endpoint_client
from engine.edge.sinks import start_sinks
from engine.edge.topic_memory import TopicMemory
from engine.edge.topic_reader import open_topic_reader
from engine.edge.watchdog import watch
from engine.flow import ALERTS, COMMANDS, OUTCOMES, RoleName
from engine.loading import Loaded
from engine.response.blast_radius import BlastRadius
from engine.response.guardrails import ModeRule, Policy, Request, mode_of

log = structlog.get_logger(__name__)

TICK_S = 0.1
PARALLEL = 16
STOP_TIMEOUT_S = 30


async def start_connectors(node: Node) -> None:
    """Receivers and scrapers: wire format in, batches on `metrics` and `logs`."""
    settings = node.settings
    send = await node.stack.enter_async_context(open_sender(settings.kafka, node.bootstrap))
    node.health.ready["connectors"] = partial(_answers, "the broker", send.check)
    metrics = ConnectorMetrics(node.telemetry.registry, node.telemetry.drops)
    publisher = Publisher(send, node.clock.now_ms, metrics, instance=settings.instance)
    node.stack.push_async_callback(publisher.close)
    push: dict[str, PushedLogs | RemoteWrite] = {
        "loki_push": settings.connectors.loki_push,
        "otlp_logs": settings.connectors.otlp_logs,
        "remote_write": settings.connectors.remote_write,
    }
    timings = {name: SourceTiming(one.lateness_ms, one.idle_after_ms) for name, one in push.items()}
    timings["remote_write"] = structs.replace(
        timings["remote_write"], settle_ms=settings.connectors.remote_write.settle_ms
    )
    enabled = [one for one in discover() if getattr(push.get(one.name), "enabled", True)]
    receivers = Receivers(publisher, timings, settings.http.max_body_bytes, enabled)
    node.routes += receivers.routes()
    node.spawn("heartbeats", publisher.run_heartbeats())
    if settings.connectors.alertmanager.enabled:
        transitions = node.telemetry.transitions
        alerts = AlertReceiver(settings.connectors.alertmanager, send, node.clock.now_ms, metrics, transitions)
        node.routes += alerts.routes()
        node.spawn("alert-expiry", alerts.run(node.clock.sleep))
    if settings.connectors.scrape:
        scraper = Scraper(publisher, settings.connectors.scrape, open_client)
        node.stack.push_async_callback(scraper.close)
        node.spawn("scraper", scraper.run())
    for api in settings.connectors.prometheus_api:
        poller = PrometheusPoller(publisher, api, await node.stack.enter_async_context(open_client(api)))
        poller.read(node.loaded.groups)
        node.on_reload.append(partial(_read_again, poller))
        node.spawn(f"prometheus-api-{api.name}", poller.run())
    await _start_log_readers(node, publisher, send)


async def _start_log_readers(node: Node, publisher: Publisher, send: Send) -> None:
    """What reads logs where they are: Loki servers, and topics that others fill."""
    settings = node.settings
    memory = TopicMemory(settings.kafka, node.bootstrap)
    for api in settings.connectors.loki:
        http = await node.stack.enter_async_context(open_client(api))
        websockets = await node.stack.enter_async_context(aiohttp.ClientSession())
        reader = LokiReader(publisher, api, LokiClient(api, http, websockets), memory)
        reader.read(node.loaded.groups)
        node.on_reload.append(partial(_read_again, reader))
        node.spawn(f"loki-{api.name}", reader.run())
    for topic in settings.connectors.log_topics:
        opening = open_topic_reader(settings.kafka, node.bootstrap, topic, publisher, send)
        node.spawn(f"log-topic-{topic.topic}", (await node.stack.enter_async_context(opening)).run())


def _read_again(reader: PrometheusPoller | LokiReader, loaded: Loaded) -> None:
    reader.read(loaded.groups)


async def start_router(node: Node) -> None:
    """`metrics`, `logs` -> `rule-inputs`."""
    role = _open(node, "router")
    reload = run_router(role, node.loaded.groups, node.settings.rules.shards)
    node.on_reload.append(lambda loaded: reload(loaded.groups))
    await _start(node, role)


async def start_evaluator(node: Node) -> None:
    """`rule-inputs` -> `alerts`; answers queries over its windows."""
    role = _open(node, "evaluator")
    evaluator = Evaluator(role, node.loaded.groups, node.settings.rules.shards, node.step_config)
    node.parts["evaluator"] = evaluator
    node.on_reload.append(lambda loaded: evaluator.reload(loaded.groups))
    node.routes += QueryApi(evaluator.shards, node.clock.now_ms).routes()
    node.routes += RulesApi(evaluator.shards, evaluator.last_s).routes()
    await _start(node, role)


async def start_responder(node: Node) -> None:
    """`alerts`, `outcomes` -> incidents -> `commands`."""
    settings = node.settings
    role = _open(node, "responder")
    client = await node.stack.enter_async_context(httpx.AsyncClient())
    databases = dict(settings.responder.databases)
    await say_lacking_in_databases("responder", databases, list(reads_of(node.loaded.runbooks)), connect)
    investigator = Investigator(
        client,
        databases=databases,
        hosts=hosts_of(settings.responder.hosts),
        query_url=settings.responder.query_url or node.http_url,
        loki=await _loki(node),
        cluster=await _read_cluster(node),
    )
    clock = await _database_clock(node, "responder")
    config = ResponderConfig(
        runbooks=node.loaded.runbooks,
        actions=load_actions(),
        policy=policy(settings.responder),
        key=signing_key(settings.state_dir, settings.responder.private_key_file),
        clock=clock.now_ms,
        account_to=settings.responder.account_to,
        maintenance=tuple(window.window() for window in settings.responder.maintenance),
        hours=settings.notify.hours(),
    )

    async def send(target: str, command: SignedCommand) -> None:
        await role.send(COMMANDS.name, target.encode(), encode(command))
        delay_ms = node.clock.now_ms() - command.received_ms
        node.telemetry.reaction.labels("command").observe(max(0, delay_ms) / 1000)

    responder = await node.stack.enter_async_context(Responder(config, node.need_database(), investigator, send))
    node.on_reload.append(lambda loaded: responder.reload(loaded.runbooks))
    keeper = SeriesKeeper(node.need_database(), client, settings.responder.query_url or node.http_url, clock.now_ms)
    keeper.load(node.loaded.groups)
    node.on_reload.append(lambda loaded: keeper.load(loaded.groups))

    async def handle(event: Any) -> None:
        if event.message.topic == role.prefix + ALERTS.name:
            await responder.on_transition(decoded(decode_transition, event.value))
        else:
            await responder.on_outcome(decoded(decode_outcome, event.value))

    async def tick() -> None:
        while True:
            try:
                await responder.on_tick(clock.now_ms())
            except DATABASE_LOST as error:  # in the middle of a turn; the next one finds everything in the database
                log.warning("responder.tick_cut_off", reason=str(error) or type(error).__name__)
            await node.clock.sleep(TICK_S)

    consume(role, [ALERTS, OUTCOMES], handle, parallel=PARALLEL)
    await _start(node, role)
    node.spawn("responder-tick", tick())
    node.spawn("responder-series", keeper.run(node.clock.sleep))
    exporter = StatsExporter(node.need_database(), node.telemetry, clock.now_ms)
    node.spawn("responder-stats", exporter.run(node.clock.sleep))


async def start_executor(node: Node) -> None:
    """`commands` -> actions -> `outcomes`. The only role with credentials."""
    settings = node.settings
    role = _open(node, "executor")
    actions, allowed = load_actions(), settings.executor.allow_actions
    environment = await open_environment(settings.executor, node.stack, node.clock)
    needs = [need for need in needs_of(node.loaded.runbooks, actions) if need.action in allowed]
    await say_what_is_lacking(environment, needs, settings.executor.namespaces)
    executor = Executor(
        node.need_database(),
        executor_settings(settings),
        trusted_keys(settings.state_dir, settings.executor.public_keys),
        actions,
        environment,
        await _database_clock(node, "executor"),
    )

    async def publish(outcome: Any) -> None:
        await role.send(OUTCOMES.name, str(outcome.incident).encode(), encode(outcome))
        await executor.mark_published(outcome)

    async def handle(event: Any) -> None:
        try:
            outcome = await executor.execute(event.value or b"")
        except MalformedCommandError as error:
            raise PoisonError(f"not a command: {error}") from error
        if outcome is not None:
            node.telemetry.commands.labels(outcome.action, outcome.status).inc()
            await publish(outcome)

    async def recover() -> None:
        while True:
            for outcome in await executor.recover():
                await publish(outcome)
            await node.clock.sleep(1)

    consume(role, [COMMANDS], handle, parallel=PARALLEL)
    await _start(node, role)
    node.spawn("executor-recover", recover())


async def start_console(node: Node) -> None:
    """The web pages and the JSON API for people."""
    alerts = AlertsNow(node.settings.kafka, node.bootstrap)
    await node.stack.enter_async_context(alerts)
    node.spawn("alerts-now", alerts.run())
    clock = await _database_clock(node, "console")
    store = PostgresStore(node.need_database(), clock.now_ms)
    node.routes += Console(store, alerts.now, clock.now_ms, external_url=node.settings.http.external_url).routes()


START: dict[RoleName, Callable[[Node], Awaitable[None]]] = {
    "connectors": start_connectors,
    "router": start_router,
    "evaluator": start_evaluator,
    "responder": start_responder,
    "executor": start_executor,
    "notifier": start_notifier,
    "console": start_console,
    "sinks": start_sinks,
}


def policy(settings: Any) -> Policy:
    """The guardrails' policy from the responder's settings."""
    return Policy(
        modes=tuple(
            ModeRule(one.mode, one.action, one.severity, one.namespace, tuple(one.match)) for one in settings.overrides
        ),
        default_mode=settings.mode,
        storm_targets=settings.storm_targets,
        storm_window_ms=int(settings.storm_window_s * 1000),
        storm_settle_ms=int(settings.storm_settle_s * 1000),
        approval_expiry_ms=int(settings.approval_expiry_s * 1000),
        production=tuple(settings.production),
        four_eyes=tuple(settings.four_eyes),
        flap_repairs=settings.flap_repairs,
    )


def executor_settings(settings: Settings) -> ExecutorSettings:
    """What an executor may do; the modes are the responder's, which it decides again."""
    rules, radius = policy(settings.responder), settings.executor.blast_radius

    def mode(command: Command, destructive: bool) -> Mode:
        return mode_of(Request(command, 1, destructive), rules).mode

    return ExecutorSettings(
        name=settings.instance,
        allow_actions=frozenset(settings.executor.allow_actions),
        mode=mode,
        people=lambda command: rules.people(command.priority),
        namespaces=frozenset(settings.executor.namespaces),
        lease_ms=int(settings.executor.lease_s * 1000),
        blast_radius=BlastRadius(radius.share, radius.at_least, int(radius.window_s * 1000)),
    )


async def _database_clock(node: Node, role: RoleName) -> DatabaseClock:
    """The clock that decides about commands, kept in step for as long as the process lives."""
    clock = DatabaseClock(partial(node.need_database().run, control.clock_ms))
    await clock.sync()
    node.spawn(f"{role}-clock", clock.run())
    return clock


async def _read_cluster(node: Node) -> Cluster | None:
    """The cluster that investigations read, where they may read any namespace; what its account lacks is said."""
    responder = node.settings.responder
    if not responder.namespaces:
        return None
    cluster = responder.kubernetes
    api = await node.stack.enter_async_context(open_kubernetes(cluster.kubeconfig, cluster.context, cluster.timeout_s))
    await say_lacking_on_cluster("responder", api, list(reads_of(node.loaded.runbooks)), responder.namespaces)
    return Cluster(api, frozenset(responder.namespaces))


async def _loki(node: Node) -> Loki | None:
    """The Loki that investigations query, where one is set."""
    endpoint = node.settings.responder.loki
    if endpoint is None:
        return None
    return Loki(endpoint.url, await node.stack.enter_async_context(endpoint_client(endpoint)))


def _open(node: Node, name: RoleName) -> RoleApp:
    role = open_app(name, node.settings, node.bootstrap, (node.telemetry, node.clock))
    node.parts[name + "-app"] = role
    return role


async def _answers(what: str, ask: Callable[[], Awaitable[object]]) -> CheckResult:
    """A readiness check: `ask` raises if the part is not there."""
    await ask()
    return CheckResult(True, f"{what} answers")


async def _start(node: Node, role: RoleApp) -> None:
    """Start a role's Faust application, and say when it has its partitions."""
    node.stack.push_async_callback(_stop, role)
    await role.app.start()

    async def check() -> CheckResult:
        if role.app.crashed:
            return CheckResult(False, "the Faust application has crashed")
        if not role.joined:
            return CheckResult(False, "has not joined its consumer group yet")
        return CheckResult(True, f"{len(role.app.consumer.assignment())} partitions assigned")

    node.health.ready[role.role] = check
    node.spawn(f"{role.role}-watchdog", watch(node, role))


async def _stop(role: RoleApp) -> None:
    for lanes in role.lanes:
        await lanes.drain(timeout_s=10)
    try:
        await asyncio.wait_for(role.app.stop(), STOP_TIMEOUT_S)
    except TimeoutError:
        log.warning("role.stop_cut_off", role=role.role, after_s=STOP_TIMEOUT_S)
