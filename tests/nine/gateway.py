"""OpenClaw's administrators' API, and the users behind it: who is blocked there breaks no more policies."""

from __future__ import annotations

import asyncpg
from aiohttp import web

from tests.nine.town import VIOLATIONS, Town

TOKEN = "admin-of-openclaw"
_ATTEMPTS = 3  # at each turn
_INSERT = "insert into policy_violations (policy_id, source_user, source_channel) values ($1, $2, $3)"


class Gateway:
    """The blocklist; `attackers` (user -> channel) break policies at every turn, as long as they are let in."""

    def __init__(self, town: Town, aureus_os: asyncpg.Pool) -> None:
        self.blocked: dict[str, str] = {}
        self.attackers: dict[str, str] = {}
        self._town = town
        self.database = aureus_os
        town.turns.append(self._turn)
        town.routes += [
            web.get("/openclaw/health", self._health),
            web.get("/openclaw/api/admin/blocklist", self._show),
            web.post("/openclaw/api/admin/blocklist", self._block),
        ]

    async def _turn(self) -> None:
        if not self._town.ready("openclaw") or not self._town.ready("aureus-os"):
            return
        for user, channel in [*self.attackers.items()] * _ATTEMPTS:
            if user not in self.blocked:
                self._town.services["aureus-os"].count(VIOLATIONS["data-exfiltration"])
                self._town.log("aureus-os", "WARN", "policy_violation", user=user, policy_id="data-exfiltration")
                await self.database.execute(_INSERT, "data-exfiltration", user, channel)

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"}, status=200 if self._town.ready("openclaw") else 503)

    async def _show(self, request: web.Request) -> web.Response:
        self._authorise(request)
        return web.json_response({"blocked": sorted(self.blocked)})

    async def _block(self, request: web.Request) -> web.Response:
        self._authorise(request)
        asked = await request.json()
        self.blocked[asked["user_id"]] = asked.get("reason", "")
        return web.json_response({"user_id": asked["user_id"]}, status=201)

    def _authorise(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
        if not self._town.ready("openclaw"):
            raise web.HTTPServiceUnavailable
