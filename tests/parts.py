"""Real Kafka, Prometheus, Alertmanager and Loki for tests, from the parts that `scripts/parts.py` has obtained.

Each context manager starts its program on free loopback ports, yields when the program's own API says that it is
ready, and ends the processes that it started, no others. A program that does not start shows the tail of its log. A
part that is not there skips the test, with the reason.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from scripts import parts

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
_CLUSTER_ID = "c2VudGluZWwtdGVzdC0wMQ"
_JAVA = [
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
]
_DIE_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def require(name: str) -> Path:
    """The folder with the part's programs or jars; skips the test when the part is not there."""
    cache = parts.default_cache()
    found = parts.PARTS[name].find(cache)
    if found is None:
        pytest.skip(parts.missing_reason(name, cache))
    return found


def free_ports(count: int) -> list[int]:
    """Distinct loopback ports that nobody listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Program:
    """One process with its log file; it also dies when this process does, where `setpriv` can see to that."""

    def __init__(
        self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603  # our parts
                [*_DIE_WITH_PARENT, *command], stdout=output, stderr=output, env=env, cwd=cwd
            )

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Return when `ready()`; RuntimeError with the tail of the log when it ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            try:
                status = self.process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                why = f"was not ready after {START_TIMEOUT_S:g} s"
            else:
                why = f"ended with status {status}"
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
            raise RuntimeError(f"{what} {why}; the end of {self.log}:\n{tail}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, insist after a while, and return its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode


class Kafka:
    """A KRaft cluster whose nodes (0, 1, ...) are each broker and controller; `url` is its bootstrap servers."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._classpath = f"{require('kafka')}/*"
        self._folder = folder
        ports = free_ports(2 * nodes)
        self._ports, self._controller_ports = ports[:nodes], ports[nodes:]
        self._running: dict[int, Program] = {}
        self.url = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        for node in range(nodes):
            self._format(node)

    def start(self, node: int) -> None:
        """Start a node that does not run, without waiting for it."""
        command = ["java", *_JAVA, "-cp", self._classpath, "kafka.Kafka", str(self._properties(node))]
        self._running[node] = Program(command, self._folder / f"node-{node}.log")

    def stop(self, node: int) -> None:
        """End a node in good order."""
        self._running.pop(node).stop()

    def kill(self, node: int) -> None:
        """End a node as a power cut would."""
        self._running.pop(node).kill()

    def stop_all(self) -> None:
        """End every node that runs; killed, as nothing of a test's cluster is kept."""
        for node in list(self._running):
            self.kill(node)

    def wait_until_ready(self) -> None:
        """Return when the cluster's metadata, as seen by a client, names every running node."""
        admin = AdminClient({"bootstrap.servers": self.url, "log_level": 0})
        for node, program in self._running.items():
            program.wait_until(lambda: len(_brokers(admin)) == len(self._running), f"Kafka node {node}")

    def _properties(self, node: int) -> Path:
        return self._folder / f"node-{node}.properties"

    def _format(self, node: int) -> None:
        copies = min(len(self._ports), 3)
        voters = ",".join(f"{voter}@127.0.0.1:{port}" for voter, port in enumerate(self._controller_ports))
        broker = f"PLAINTEXT://127.0.0.1:{self._ports[node]}"
        lines = [
            "process.roles=broker,controller",
            f"node.id={node}",
            f"controller.quorum.voters={voters}",
            f"listeners={broker},CONTROLLER://127.0.0.1:{self._controller_ports[node]}",
            f"advertised.listeners={broker}",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            f"log.dirs={self._folder / f'node-{node}'}",
            "num.partitions=4",
            f"default.replication.factor={copies}",
            f"offsets.topic.replication.factor={copies}",
            "offsets.topic.num.partitions=4",
            f"transaction.state.log.replication.factor={copies}",
            f"transaction.state.log.min.isr={copies}",
            "group.initial.rebalance.delay.ms=0",
            "log.retention.check.interval.ms=1000",
            "log.initial.task.delay.ms=1000",
        ]
        self._properties(node).write_text("\n".join(lines) + "\n", encoding="utf-8")
        tool = ["java", *_JAVA, "-cp", self._classpath, "kafka.tools.StorageTool", "format"]
        formatted = subprocess.run(  # noqa: S603  # our parts
            [*tool, "-t", _CLUSTER_ID, "-c", self._properties(node)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if formatted.returncode:
            raise RuntimeError(f"Kafka's storage could not be formatted: {formatted.stdout[-2000:]}")


def _brokers(admin: AdminClient) -> set[int]:
    try:
        return set(admin.list_topics(timeout=1.0).brokers)
    except KafkaException:
        return set()


@contextmanager
def running_kafka(folder: Path, nodes: int = 1) -> Iterator[Kafka]:
    """A real Kafka of so many nodes, its data and logs in `folder`; ready when yielded."""
    kafka = Kafka(folder, nodes)
    try:
        for node in range(nodes):
            kafka.start(node)
        kafka.wait_until_ready()
        yield kafka
    finally:
        kafka.stop_all()


class Prometheus:
    """A real Prometheus with this configuration (YAML) and further flags, on one port however often it is started.

    `part` says which one: "prometheus" (Debian's) or "prometheus-3". Its data stays in `folder`.
    """

    def __init__(self, folder: Path, config: str, flags: Sequence[str] = (), part: str = "prometheus") -> None:
        program = require(part) / "prometheus"
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "prometheus.log"
        config_file = folder / "prometheus.yml"
        config_file.write_text(config, encoding="utf-8")
        own = [
            f"--config.file={config_file}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._command = [str(program), *own, *flags]
        self._running: Program | None = None

    def start(self) -> None:
        """Start it and return when it is ready."""
        self._running = Program(self._command, self._log)
        self._running.wait_until(lambda: answers(f"{self.url}/-/ready"), "Prometheus")

    def stop(self) -> None:
        """End it in good order, if it runs."""
        if self._running is not None:
            self._running.stop()
            self._running = None


@contextmanager
def running_prometheus(folder: Path, config: str, flags: Sequence[str] = ()) -> Iterator[str]:
    """Debian's Prometheus; yields its base URL when it is ready."""
    prometheus = Prometheus(folder, config, flags)
    try:
        prometheus.start()
        yield prometheus.url
    finally:
        prometheus.stop()


@contextmanager
def running_alertmanager(folder: Path, port: int | None = None) -> Iterator[str]:
    """A real Alertmanager without receivers or peers; yields its base URL when it is ready."""
    programs = require("alertmanager")
    launcher = programs / "alertmanager"  # missing where the package itself is installed
    program = launcher if launcher.exists() else programs / "prometheus-alertmanager"
    port = port or free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    config_file = folder / "alertmanager.yml"
    config_file.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n", encoding="utf-8")
    own = [
        f"--config.file={config_file}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    running = Program([str(program), *own], folder / "alertmanager.log")
    try:
        running.wait_until(lambda: answers(f"{url}/-/ready"), "Alertmanager")
        yield url
    finally:
        running.stop()


_LOKI_CONFIG = """
auth_enabled: false
analytics: {{reporting_enabled: false}}
server:
  http_listen_address: 127.0.0.1
  http_listen_port: {http}
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: {grpc}
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: {folder}
  replication_factor: 1
  ring: {{kvstore: {{store: inmemory}}}}
  storage: {{filesystem: {{chunks_directory: {folder}/chunks, rules_directory: {folder}/rules}}}}
schema_config:
  configs:
    - {{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}
frontend_worker: {{frontend_address: "127.0.0.1:{grpc}"}}
ingester:
  lifecycler: {{min_ready_duration: 0s, final_sleep: 0s}}
query_range: {{parallelise_shardable_queries: false}}
limits_config:
  max_query_series: 100000
  ingestion_rate_mb: 100
  ingestion_burst_size_mb: 200
  per_stream_rate_limit: 100MB
  per_stream_rate_limit_burst: 200MB
  reject_old_samples: false
  discover_log_levels: false
{limits}"""
NO_SERVICE_NAMES = "  discover_service_name: []\n"
"""A limit: streams keep the labels that they are pushed with."""


class Loki:
    """A real Loki on one port however often it is started; its data stays in `folder`. `limits` are further ones."""

    def __init__(self, folder: Path, limits: str = NO_SERVICE_NAMES) -> None:
        self._program = require("loki") / "loki"
        http, grpc = free_ports(2)
        self.port = http
        self.url = f"http://127.0.0.1:{http}"
        self._log = folder / "loki.log"
        self._config = folder / "loki.yml"
        config = _LOKI_CONFIG.format(http=http, grpc=grpc, folder=folder / "loki", limits=limits)
        self._config.write_text(config, encoding="utf-8")
        self._running: Program | None = None

    def start(self) -> None:
        """Start it, without waiting for it."""
        self._running = Program([str(self._program), f"-config.file={self._config}"], self._log)

    def wait_until_ready(self) -> None:
        """Return when it takes lines and answers queries."""
        assert self._running is not None
        self._running.wait_until(lambda: answers(f"{self.url}/ready"), "Loki")

    def kill(self) -> None:
        """End it as a power cut would, if it runs."""
        if self._running is not None:
            self._running.kill()
            self._running = None

    def stop(self) -> None:
        """End it in good order, if it runs."""
        if self._running is not None:
            self._running.stop()
            self._running = None


@contextmanager
def running_loki(folder: Path, limits: str = NO_SERVICE_NAMES) -> Iterator[Loki]:
    """A real Loki, ready when yielded."""
    loki = Loki(folder, limits)
    try:
        loki.start()
        loki.wait_until_ready()
        yield loki
    finally:
        loki.kill()


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        return httpx.get(url, timeout=1.0).is_success
    except httpx.TransportError:
        return False
