"""What the demo runs on: the stand-in stack, a real Prometheus if wanted, and Sentinel's settings for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from engine.edge.database import Database
from engine.edge.settings import Host, LogSettings, ModeOverride, Settings
from engine.edge.settings_sources import ScrapeJob

PROJECT = Path(__file__).resolve().parent.parent
SCRAPE_S = 2.0
RULES = [PROJECT / "examples" / "aureus" / "rules", PROJECT / "rules"]
"""What Sentinel ships, and before it the runbooks for the stand-in: the first that matches an alert takes it."""


class DemoError(Exception):
    """The demo cannot go on; says why."""


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Options:
    """What may be real: a Kafka by its bootstrap servers, a Prometheus by its program. Empty: Sentinel's own."""

    kafka_url: str = ""
    prometheus: Path | None = None


@dataclass(frozen=True)
class Aureus:
    """The running stand-in."""

    services: dict[str, str]
    control: str
    process: asyncio.subprocess.Process

    async def switch(self, fault: str, on: bool) -> dict[str, Any]:
        """Switch a fault; what was injected."""
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.post(f"{self.control}/faults/{fault}", json={"on": on})
            answer.raise_for_status()
            return dict(answer.json())

    async def end(self) -> None:
        """End it and wait until it is gone."""
        if self.process.returncode is None:
            self.process.terminate()
        await asyncio.wait_for(self.process.wait(), 20)


@asynccontextmanager
async def running_prometheus(
    binary: Path, folder: Path, targets: dict[str, str], write_url: str
) -> AsyncIterator[None]:
    """A real Prometheus that scrapes the services (by job) and remote-writes to Sentinel; its log is in the folder."""
    file = _write_config(folder, targets, write_url)
    with (folder / "prometheus.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            binary,
            *(f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{free_port()}",
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


def _write_config(folder: Path, targets: dict[str, str], write_url: str) -> Path:
    folder.mkdir()
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [url.partition("//")[2]], "labels": {"namespace": "aureus"}}]}
        for job, url in targets.items()
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S:g}s", "scrape_timeout": f"{SCRAPE_S:g}s"},
        "scrape_configs": jobs,
        "remote_write": [{"url": write_url, "queue_config": {"batch_send_deadline": "500ms", "max_shards": 1}}],
    }
    file = folder / "prometheus.yml"
    file.write_bytes(msgspec.json.encode(config))  # JSON is YAML
    return file


@asynccontextmanager
async def running_aureus(database_url: str, push_url: str, token: str, ports: int) -> AsyncIterator[Aureus]:
    """The stand-in stack as a process of its own, which ends with us whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.aureus", "--database", database_url, "--loki-push", push_url),
        *("--port-base", str(ports), "--seed", "7", "--follow-stdin"),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "AUREUS_ADMIN_TOKEN": token},
    )
    try:
        if process.stdout is None:
            raise DemoError("the stand-in has no standard output")
        line = await asyncio.wait_for(process.stdout.readline(), 40)
        if not line:
            raise DemoError("the stand-in stack did not start; see above")
        ready = msgspec.json.decode(line)
        yield Aureus(ready["services"], ready["control"], process)
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 20)
        if process.returncode is None:
            process.kill()
            await process.wait()


def settings(folder: Path, database: Database, databases: dict[str, str], ports: int, options: Options) -> Settings:
    """Sentinel's settings for the demo: what a user would write into sentinel.yml."""
    services = service_urls(ports)
    hosts = {name: Host(url=services[name], token_env="AUREUS_ADMIN_TOKEN") for name in ("bridge", "openclaw")}  # noqa: S106  # the variable's name
    labels = {"namespace": "aureus"}
    scraped = [
        ScrapeJob(job=name, url=f"{url}/metrics", interval_s=SCRAPE_S, timeout_s=SCRAPE_S, labels=labels)
        for name, url in services.items()
    ]
    empty = Settings()
    return Settings(
        state_dir=folder / "state",
        log=LogSettings(level="error", format="console"),
        kafka=empty.kafka.model_copy(update={"url": options.kafka_url, "fetch_wait_ms": 20}),
        database=empty.database.model_copy(update={"url": database.url}),
        http=empty.http.model_copy(update={"listen": f"127.0.0.1:{free_port()}"}),
        connectors=empty.connectors.model_copy(
            update={
                "scrape": [] if options.prometheus else scraped,
                "remote_write": empty.connectors.remote_write.model_copy(update={"lateness_ms": 1_000, "settle_ms": 0}),
            }
        ),
        rules=empty.rules.model_copy(update={"paths": RULES}),
        responder=empty.responder.model_copy(
            update={
                "overrides": [ModeOverride(action="http.request", namespace="aureus", mode="auto")],
                "databases": databases,
            }
        ),
        executor=empty.executor.model_copy(update={"allow_actions": ["http.request"], "hosts": hosts}),
    )


def service_urls(ports: int) -> dict[str, str]:
    """Where the stand-in's services listen, by job."""
    return {name: f"http://127.0.0.1:{ports + i}" for i, name in enumerate(("bridge", "aureus-os", "openclaw"))}
