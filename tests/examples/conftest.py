"""A loopback Loki that checks the push format, and the stand-in's three services running for real."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from examples.aureus.connections import STALE_AFTER_S
from examples.aureus.loadgen import LoadSettings, running_load
from examples.aureus.runtime import raise_open_file_limit
from examples.aureus.stack import StackSettings, loopback_url, running_services

ADMIN_TOKEN = "token-of-the-test"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def until(condition: Callable[[], object], what: str, within_s: float = 15) -> None:
    """Wait for a condition, not for a time; fails after the deadline saying what did not come."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110  # what is awaited happens in a server; it has no event for us
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {within_s} s: {what}")


class Push(msgspec.Struct, forbid_unknown_fields=True):
    """Loki's JSON push body, as its documentation has it: times are strings of nanoseconds."""

    class Stream(msgspec.Struct, forbid_unknown_fields=True):
        stream: dict[str, str]
        values: list[tuple[str, str]]

    streams: list[Stream]


class LokiReceiver:
    """Takes pushes as Loki does. `answers` are given first (status codes), then 204."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.pushes = 0
        self.lines: list[dict[str, Any]] = []
        self.faults_of_form: list[str] = []
        self.newest_ns: dict[tuple[str, str], int] = defaultdict(int)
        self.url = ""

    async def push(self, request: web.Request) -> web.Response:
        self.pushes += 1
        if self.answers and (status := self.answers.pop(0)) != 204:
            return web.Response(status=status, text="as told")
        source = request.query.get("source", "")
        for stream in msgspec.json.decode(await request.read(), type=Push).streams:
            self._check(source, stream)
            self.lines += [msgspec.json.decode(line) for _, line in stream.values]
        return web.Response(status=204)

    def _check(self, source: str, stream: Push.Stream) -> None:
        labels = stream.stream
        if set(labels) != {"job", "namespace", "level"} or labels["job"] != source:
            self.faults_of_form.append(f"labels {labels} from source {source!r}")
        for t_ns, _ in stream.values:
            key = (source, labels["level"])
            if not re.fullmatch(r"\d{19}", t_ns) or int(t_ns) <= self.newest_ns[key]:
                self.faults_of_form.append(f"time {t_ns} after {self.newest_ns[key]} in {key}")
            self.newest_ns[key] = int(t_ns)

    def events(self, name: str, **fields: object) -> list[dict[str, Any]]:
        """The lines of one event whose fields have these values."""
        return [x for x in self.lines if x["event"] == name and fields.items() <= x.items()]


@pytest.fixture
async def loki() -> AsyncIterator[LokiReceiver]:
    receiver = LokiReceiver()
    app = web.Application()
    app.add_routes([web.post("/loki/api/v1/push", receiver.push)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"{loopback_url(runner)}/loki/api/v1/push"
    yield receiver
    await runner.cleanup()
    assert receiver.faults_of_form == []


class Stack:
    """The running services, with short names for what tests ask them."""

    def __init__(self, urls: dict[str, str], session: aiohttp.ClientSession, keys: Path) -> None:
        self.urls = urls
        self.session = session
        self.keys = keys

    async def post(self, service: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """(status, JSON body or text) of a POST with the admin token, unless headers say otherwise."""
        async with self.session.post(self.urls[service] + path, json=body, headers=headers or ADMIN) as response:
            text = await response.text()
            return response.status, msgspec.json.decode(text) if response.ok else text

    async def get(self, service: str, path: str) -> Any:
        """The JSON answer of a GET with the admin token."""
        async with self.session.get(self.urls[service] + path, headers=ADMIN) as response:
            response.raise_for_status()
            return await response.json()

    async def metric(self, service: str, sample: str) -> float:
        """The value of one sample in /metrics, by its text as it stands there."""
        async with self.session.get(self.urls[service] + "/metrics") as response:
            text = await response.text()
        values = [float(line[len(sample) + 1 :]) for line in text.splitlines() if line.startswith(sample + " ")]
        assert len(values) == 1, f"{sample} stands {len(values)} times in /metrics of {service}"
        return values[0]


@pytest.fixture
def stale_after_s() -> float:
    """How long a client may be silent; a test that waits for silence overrides it by parametrization."""
    return STALE_AFTER_S


@pytest.fixture
async def stack(postgres_url: str, loki: LokiReceiver, tmp_path: Path, stale_after_s: float) -> AsyncIterator[Stack]:
    settings = StackSettings(postgres_url, loki.url, ADMIN_TOKEN, tmp_path, stale_after_s=stale_after_s)
    async with running_services(settings) as urls, aiohttp.ClientSession() as session:
        yield Stack(urls, session, tmp_path)


@pytest.fixture
async def control(stack: Stack) -> AsyncIterator[str]:
    """The fault control of a load with only ten visitors."""
    settings = LoadSettings(
        bridge=stack.urls["bridge"],
        openclaw=stack.urls["openclaw"],
        key_directory=stack.keys,
        admin_token=ADMIN_TOKEN,
        seed=7,
        files_max=raise_open_file_limit(),
        visitors=10,
    )
    async with running_load(settings) as url:
        yield url
