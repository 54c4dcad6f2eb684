"""The answer to a GET on a host of the allow-list."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from engine.actions import HttpHost
from engine.edge.investigate._found import Found, InvestigationError
from engine.response.model import HttpGet


async def get(http: httpx.AsyncClient, hosts: Mapping[str, HttpHost], query: HttpGet) -> Found:
    """Status and body, the body as JSON where it is; redirects are not followed."""
    host = hosts.get(query.host)
    if host is None:
        raise InvestigationError(f"no host {query.host!r} in responder.hosts")
    headers = {"Authorization": f"Bearer {host.token}"} if host.token else {}
    url = f"{host.base_url.rstrip('/')}{query.path}"
    response = await http.get(url, headers=headers, follow_redirects=False)
    try:
        body: object = response.json()
    except ValueError:
        body = response.text
    return Found(status=response.status_code, body=body)
