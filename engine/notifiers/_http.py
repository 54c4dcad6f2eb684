"""JSON posted to a service, and what its answer means."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from engine.core.masking import mask_text
from engine.notifiers import Environment, NotDeliveredError
from engine.sinks.retry import retry_after_ms, verdict

_TOLD_CHARACTERS = 300


def tls(ca_file: Path | None) -> ssl.SSLContext:
    """What a client trusts. Raises `NotDeliveredError` when the file cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except OSError as error:
        raise NotDeliveredError(f"ca_file {ca_file} cannot be used: {error}") from error


async def post(env: Environment, client: httpx.AsyncClient, url: str, body: object) -> httpx.Response:
    """Post JSON; the answer if it is a success, else `NotDeliveredError` with what was said."""
    try:
        response = await client.post(url, json=body)
    except httpx.HTTPError as error:
        raise NotDeliveredError(f"{type(error).__name__}: {error}") from error
    found = verdict(response.status_code)
    if found == "taken":
        return response
    said = mask_text(" ".join(response.text.split())[:_TOLD_CHARACTERS])
    asked_ms = retry_after_ms(response.headers.get("Retry-After", ""), env.now_ms())
    raise NotDeliveredError(f"HTTP {response.status_code}: {said}", final=found == "refused", asked_ms=asked_ms)
