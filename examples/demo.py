"""`make demo`: the stand-in stack breaks in three ways; Sentinel detects, decides, repairs, verifies and writes it up.

Everything is real but the stack's business: three HTTP services with their metrics, logs and tables, a load generator
with over a thousand connections, Kafka's protocol, PostgreSQL, the rules in rules/ and, because the stand-in runs on no
Kubernetes, runbooks that repair it by its admin API (examples/aureus/rules). At the end the recorded topics are run
through the same rules again, and every decision must come out as it was made.

The exit status is 0 only if all of it happened.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from rich.console import Console

from engine import __version__
from engine.bundle import FORMAT, BundleReader, Manifest, RuleConfig
from engine.core.messages import Transition, decode_transition
from engine.edge import audit
from engine.edge.console_store import PostgresStore
from engine.edge.database import open_database
from engine.edge.logging import configure
from engine.edge.node import Node, running
from engine.edge.recorder import Recorder, open_recorder
from engine.flow import ALERTS, ROLES
from engine.loading import Loaded, load, load_texts
from engine.replay import Comparison, replay
from examples.demo_setup import (
    PROJECT,
    RULES,
    Aureus,
    DemoError,
    Options,
    free_port,
    running_aureus,
    running_prometheus,
    settings,
)

WARM_UP_S = 6.0
LIMIT_S = 150.0


@dataclass
class Fault:
    """One fault of the stand-in, the alert that must find it, and how far Sentinel has come with it."""

    name: str
    alertname: str
    injected_ms: int = 0
    detected_ms: int = 0
    incident: int = 0
    shown: int = 0
    resolved: bool = False
    kinds: set[str] = field(default_factory=set)
    report: Path | None = None

    def missing(self) -> list[str]:
        """What should have happened and did not."""
        wanted = {
            "evidence.gathered": "evidence",
            "command.sent": "a command",
            "command.outcome": "its outcome",
            "verify.succeeded": "verification",
        }
        out = [] if self.detected_ms else ["detection"]
        out += [] if self.incident else ["an incident"]
        out += [what for kind, what in wanted.items() if kind not in self.kinds]
        out += [] if self.resolved else ["the end of the incident"]
        return out + ([] if self.report else ["a report"])


FAULTS = (
    Fault("policy-attack", "PolicyViolationSpike"),
    Fault("key-mismatch", "SignatureFailures"),
    Fault("connection-leak", "ConnectionOverload"),
)

_SHOWN = {
    "incident.opened": "incident",
    "evidence.gathered": "evidence",
    "step.decided": "decided",
    "command.sent": "command",
    "command.held": "approval",
    "command.refused": "refused",
    "command.outcome": "outcome",
    "verify.succeeded": "verified",
    "verify.failed": "not fixed",
    "incident.escalated": "escalated",
    "incident.resolved": "resolved",
}


class Screen:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._start = time.monotonic()

    def say(self, what: str, text: str, fault: str = "", style: str = "") -> None:
        """One line: time, fault, what happened."""
        elapsed_s = time.monotonic() - self._start
        self._console.print(f"{elapsed_s:6.1f}s  {fault:<15}  {what:<10}", end="", style=style)
        self._console.print(f" {text}", markup=False)


class Demo:
    """One run: injects the faults, follows the incidents, and judges."""

    def __init__(self, screen: Screen, node: Node, aureus: Aureus, out: Path) -> None:
        self.screen = screen
        self.node = node
        self.aureus = aureus
        self.out = out
        self.faults = {fault.alertname: fault for fault in FAULTS}
        self.store = PostgresStore(node.need_database(), node.clock.now_ms)

    async def ready(self) -> None:
        """Wait until every role has what it needs."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            results = await self.node.health.readiness()
            if results and all(result.ok for result in results.values()):
                return
            await asyncio.sleep(0.1)
        reasons = "; ".join(f"{name}: {result.reason}" for name, result in results.items() if not result.ok)
        raise DemoError(f"not ready within 60 s: {reasons}")

    async def inject(self) -> None:
        """Switch the faults on, one after the other."""
        for fault in self.faults.values():
            answer = await self.aureus.switch(fault.name, True)
            fault.injected_ms = int(answer["at_ms"])
            self.screen.say("injected", str(answer["injected"]), fault.name, "bold red")

    async def watch_alerts(self) -> None:
        """Show every alert as it fires, with the delay since the event that crossed the threshold."""
        prefix = self.node.settings.kafka.topic_prefix
        consumer = AIOKafkaConsumer(
            prefix + ALERTS.name,
            bootstrap_servers=self.node.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
        )
        async with consumer:
            async for message in consumer:
                self._show_alert(decode_transition(message.value))

    def _show_alert(self, alert: Transition) -> None:
        fault = self.faults.get(alert.alertname)
        if alert.state != "firing" or fault is None:
            return
        now_ms = self.node.clock.now_ms()
        fault.detected_ms = fault.detected_ms or now_ms
        signal = alert.labels.get("signal", alert.rule.split("/")[0])
        text = f"{alert.alertname} ({signal}) {now_ms - alert.at_ms} ms after the event that crossed the threshold"
        self.screen.say("detected", f"{text}; {(now_ms - fault.injected_ms) / 1000:.1f} s after it began", fault.name)

    async def follow(self) -> None:
        """Show what happens in the incidents until all are resolved or the time is up."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and not all(fault.resolved for fault in self.faults.values()):
            if self.node.failure.done():
                self.node.failure.result()
            for incident in await self.store.incidents(open_only=False, limit=50):
                await self._show_incident(incident.id)
            await asyncio.sleep(0.2)

    async def _show_incident(self, number: int) -> None:
        detail = await self.store.incident(number)
        fault = self.faults.get(detail.incident.rule.split("/")[-1]) if detail else None
        if detail is None or fault is None or fault.incident not in (0, number):
            return
        fault.incident = number
        for entry in detail.timeline[fault.shown :]:
            fault.kinds.add(entry.kind)
            if entry.kind in _SHOWN:
                style = "green" if entry.kind in ("verify.succeeded", "incident.resolved") else ""
                self.screen.say(_SHOWN[entry.kind], entry.text, fault.name, style)
        fault.shown = len(detail.timeline)
        if "incident.resolved" in fault.kinds and not fault.resolved:
            fault.resolved = True
            await self._write_report(fault)

    async def _write_report(self, fault: Fault) -> None:
        text = await self.store.report(fault.incident)
        if text:
            fault.report = self.out / f"incident-{fault.incident}-{fault.alertname}.md"
            fault.report.write_text(text, encoding="utf-8")
            self.screen.say("report", str(fault.report), fault.name)

    async def quiet(self) -> None:
        """Wait until nothing is on its way any more."""
        apps = [part for name, part in self.node.parts.items() if name.endswith("-app")]
        calm = 0
        while calm < 5:
            await asyncio.sleep(0.2)
            calm = calm + 1 if sum(sum(app.lag().values()) for app in apps) == 0 else 0

    async def check_audit(self) -> str:
        """Verify the audit chain; what is wrong with it, "" if nothing."""
        async with self.node.need_database().connection() as conn:
            broken = await audit.verify(conn)
        return str(broken) if broken else ""


def manifest(node: Node, loaded: Loaded) -> Manifest:
    """What a bundle of this process says of itself."""
    rules = node.settings.rules
    return Manifest(
        format=FORMAT,
        version=__version__,
        created_ms=node.clock.now_ms(),
        rules=loaded.texts,
        config=RuleConfig(
            shards=rules.shards,
            eager_per_s=rules.eager_per_s,
            eager_grid_ms=rules.eager_grid_ms,
            source_idle_ms=rules.source_idle_ms,
            external_labels=rules.external_labels,
            external_url=node.step_config.external_url,
        ),
    )


def run_again(node: Node, bundle: Path) -> Comparison:
    """Replay the recorded bundle with the rules in it."""
    with BundleReader(bundle) as reader:
        groups = load_texts(reader.manifest.rules).groups
        return replay(reader.messages(), groups, reader.manifest.config.shards, node.step_config)


async def _record(recorder: Recorder, until: asyncio.Event) -> None:
    while not until.is_set():
        await recorder.copy()
    await recorder.catch_up()


async def demo(out: Path, options: Options) -> int:
    """Run the demo; the exit status."""
    screen = Screen()
    loaded = load(RULES)
    if loaded.errors:
        raise DemoError("\n".join(map(str, loaded.errors)))
    token = secrets.token_hex(16)
    os.environ["AUREUS_ADMIN_TOKEN"] = token
    bundle = out / "demo.sentinel"
    async with AsyncExitStack() as stack:
        broker = options.kafka_url or "embedded, forgets everything at the end"
        screen.say("start", f"PostgreSQL, Kafka ({broker}), every role of Sentinel, and the Aureus stack")
        database = await stack.enter_async_context(open_database(None, out / "state"))
        databases = {name: await database.create_database(name) for name in ("aureus_os", "bridge")}
        ports = free_port()
        chosen = settings(out, database, databases, ports, options)
        configure(chosen.log, chosen.instance)
        # The stack comes first, as in life; it keeps its log lines until the receiver is there.
        push_url = f"http://{chosen.http.listen}/loki/api/v1/push"
        aureus = await stack.enter_async_context(running_aureus(database.url, push_url, token, ports))
        node = await stack.enter_async_context(running(chosen, ROLES, loaded))
        if options.prometheus:
            write_url = f"{node.http_url}/api/v1/write"
            opening = running_prometheus(options.prometheus, out / "prometheus", aureus.services, write_url)
            await stack.enter_async_context(opening)
        run = Demo(screen, node, aureus, out)
        await run.ready()
        screen.say("ready", f"console {node.http_url}")
        recording_ends = asyncio.Event()
        recorder = await stack.enter_async_context(
            open_recorder(chosen.kafka, node.bootstrap, bundle, manifest(node, loaded))
        )
        recording = asyncio.create_task(_record(recorder, recording_ends))
        alerts = asyncio.create_task(run.watch_alerts())
        try:
            await asyncio.sleep(WARM_UP_S)
            await run.inject()
            await run.follow()
            await aureus.end()
            await run.quiet()
        finally:
            alerts.cancel()
            recording_ends.set()
            await asyncio.gather(alerts, recording, return_exceptions=True)
        recording.result()
        broken_audit = await run.check_audit()
    again = run_again(node, bundle)
    return judge(screen, run, again, broken_audit, bundle)


def judge(screen: Screen, run: Demo, again: Comparison, broken_audit: str, bundle: Path) -> int:
    """Say what held and what did not."""
    failed = False
    for fault in run.faults.values():
        if missing := fault.missing():
            failed = True
            screen.say("FAILED", f"did not happen: {', '.join(missing)}", fault.name, "bold red")
    if broken_audit:
        failed = True
        screen.say("FAILED", f"the audit chain is broken: {broken_audit}", style="bold red")
    else:
        screen.say("audit", "the chain of decisions is whole")
    volume = f"{again.samples} samples and {again.lines} lines from {bundle}"
    if again.same and again.identical:
        screen.say("replay", f"all {len(again.identical)} transitions identical ({volume})", style="green")
    else:
        failed = True
        counts = f"{len(again.identical)} identical, {len(again.gone)} gone, {len(again.added)} added"
        screen.say("FAILED", f"replay differs: {counts} ({volume})", style="bold red")
        for sign, change in [("-", t) for t in again.gone] + [("+", t) for t in again.added]:
            screen.say(sign, f"{change.rule} {change.previous}->{change.state} at {change.at_ms} {change.labels}")
    screen.say("done", "something is missing" if failed else "three faults found, repaired, verified and written up")
    return 1 if failed else 0


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=PROJECT / "out" / "demo", help="folder for reports and the bundle")
    parser.add_argument("--kafka", default="", help="bootstrap servers of a real Kafka; empty: the embedded broker")
    parser.add_argument(
        "--prometheus",
        type=Path,
        metavar="BINARY",
        help="let this Prometheus scrape and remote-write",
    )
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    try:
        return asyncio.run(demo(given.out, Options(given.kafka, given.prometheus)))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
