"""HTTP to the systems that are told: one request, and what its answer means."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from engine.edge.clock import Clock
from engine.edge.settings_base import Endpoint
from engine.edge.telemetry import Telemetry
from engine.sinks.retry import Verdict, retry_after_ms, verdict

_TOLD_CHARACTERS = 300


@dataclass(frozen=True)
class Answer:
    """What came of a request. `asked_ms` is how long the receiver wants to be left alone; `said` is for people."""

    verdict: Verdict
    code: str
    asked_ms: int
    said: str


class Receiver:
    """One service that takes what is posted to it. `name` is its address without secrets."""

    def __init__(self, sink: str, url: str, client: httpx.AsyncClient, own: tuple[Telemetry, Clock]) -> None:
        self.sink = sink
        self.name = url
        self._client = client
        self.telemetry, self.clock = own

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request. Whatever goes wrong on the way is an answer too: not now."""
        try:
            response = await self._client.post(self.name, content=body, headers=dict(headers))
        except httpx.HTTPError as error:
            answer = Answer("later", "unreachable", 0, f"{type(error).__name__}: {error}")
        else:
            asked_ms = retry_after_ms(response.headers.get("Retry-After", ""), self.clock.now_ms())
            status = response.status_code
            said = f"HTTP {status}: {' '.join(response.text.split())[:_TOLD_CHARACTERS]}"
            answer = Answer(verdict(status), str(status), asked_ms, said)
        self.telemetry.sink_requests.labels(self.sink, self.name, answer.code).inc()
        return answer

    def sent(self, count: int) -> None:
        """Count what it took."""
        self.telemetry.sink_sent.labels(self.sink, self.name).inc(count)

    def drop(self, reason: str, count: int) -> None:
        """Count what it will never get."""
        if count:
            self.telemetry.drops.labels(self.sink, reason).inc(count)


@asynccontextmanager
async def open_receiver(
    sink: str, url: str, endpoint: Endpoint, own: tuple[Telemetry, Clock]
) -> AsyncIterator[Receiver]:
    """A receiver with its connections. Redirects are not followed: what is sent goes where it was told to go."""
    async with endpoint_client(endpoint) as client:
        yield Receiver(sink, url, client, own)


def endpoint_client(endpoint: Endpoint) -> httpx.AsyncClient:
    """A client for one service, as its settings name it; redirects are not followed."""
    headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    if token := endpoint.token.get_secret_value():
        headers["Authorization"] = f"Bearer {token}"
    auth = (endpoint.username, endpoint.password.get_secret_value()) if endpoint.username else None
    headers.setdefault("User-Agent", "aureus-sentinel")
    return httpx.AsyncClient(
        auth=auth, headers=headers, timeout=endpoint.timeout_s, verify=_ssl_context(endpoint), follow_redirects=False
    )


def _ssl_context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
    if endpoint.cert_file and endpoint.key_file:
        context.load_cert_chain(endpoint.cert_file, endpoint.key_file)
    return context
