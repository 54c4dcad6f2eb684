"""bridge: verifies signed messages with the keys it loaded, and keeps an audit log of what it verified."""

from __future__ import annotations

import time

import asyncpg
import msgspec
from aiohttp import web
from prometheus_client import Counter

from examples.aureus.database import record
from examples.aureus.service import Kit, read_body
from examples.aureus.signatures import REASONS, KeyDirectory, Payload, SignedMessage, claimed_source, verify

_INSERT = "INSERT INTO audit_log (action, result, reason, key_id, source) VALUES ($1, $2, $3, $4, $5)"


class Bridge:
    """The service's state: the keys in use. They change only by a reload or a restart."""

    def __init__(self, kit: Kit, pool: asyncpg.Pool, directory: KeyDirectory) -> None:
        self.kit = kit
        self._pool = pool
        self._directory = directory
        self._keys = directory.load()
        self._verified = Counter("bridge_signatures_verified", "Messages whose signature held.", registry=kit.registry)
        self._failures = Counter(
            "bridge_signature_failures", "Messages not believed.", ["reason"], registry=kit.registry
        )
        for reason in REASONS:
            self._failures.labels(reason)  # a counter that starts at 0 shows its first increase

    def routes(self) -> list[web.RouteDef]:
        """Verification for everyone, keys and restart for administrators."""
        return [
            web.post("/verify", self.verify),
            web.post("/keys/rotation", self.announce_rotation),
            web.post("/api/admin/keys/reload", self.reload_keys),
            web.get("/api/admin/keys", self.show_keys),
            web.post("/api/admin/restart", self.restart),
        ]

    def unhealthy(self) -> str:
        """Without keys nothing can be verified."""
        return "" if self._keys.keys else "no keys loaded"

    async def run(self) -> None:
        """Bridge does nothing by itself."""

    async def stop(self) -> None:
        """Bridge holds no long connections."""

    async def verify(self, request: web.Request) -> web.Response:
        """`{key_id, ttl, payload, signature}` -> `{"verified": bool, "reason": ...}`."""
        message = await read_body(request, SignedMessage)
        refusal = await self._check(message)
        return web.json_response({"verified": not refusal, "reason": refusal})

    async def announce_rotation(self, request: web.Request) -> web.Response:
        """A signer says, signed with its old key, that it uses a new one now (the body of the payload names it).

        It is noted, not obeyed: the new public key counts once an administrator reloads the keys.
        """
        message = await read_body(request, SignedMessage)
        if refusal := await self._check(message):
            raise web.HTTPForbidden(text=f"announcement not believed: {refusal}")
        payload = msgspec.json.decode(message.payload, type=Payload)
        self.kit.log("info", "key_rotation", old_key_id=message.key_id, new_key_id=payload.body)
        await record(self.kit, self._pool, _INSERT, "key_rotation", "ok", "", payload.body, payload.source)
        return web.json_response({"noted": payload.body}, status=202)

    async def reload_keys(self, _: web.Request) -> web.Response:
        """Read the key directory again."""
        await self._load_keys("admin")
        return self._keys_response(200)

    async def show_keys(self, _: web.Request) -> web.Response:
        """The keys in use, which is not always what the directory holds."""
        return self._keys_response(200)

    async def restart(self, _: web.Request) -> web.Response:
        """Begin anew, which reads the keys as every start does."""
        self.kit.log("warning", "restarted", closed=0)
        await self._load_keys("restart")
        return self._keys_response(202)

    def _keys_response(self, status: int) -> web.Response:
        body = {"loaded": sorted(self._keys.keys), "current": self._keys.current}
        return web.json_response(body, status=status)

    async def _load_keys(self, source: str) -> None:
        self._keys = self._directory.load()
        self.kit.log("info", "keys_reloaded", key_id=self._keys.current)
        await record(self.kit, self._pool, _INSERT, "key_reload", "ok", "", self._keys.current, source)

    async def _check(self, message: SignedMessage) -> str | None:
        reason = verify(message, self._keys, time.time_ns() // 1_000_000)
        source, key_id = claimed_source(message), message.key_id
        if reason is None:
            self._verified.inc()
            self.kit.log("info", "signature_verified", key_id=key_id, source=source)
        else:
            self._failures.labels(reason).inc()
            self.kit.log("warning", "signature_verification_failed", reason=reason, key_id=key_id, source=source)
        result = "failed" if reason else "ok"
        await record(self.kit, self._pool, _INSERT, "verify", result, reason or "", key_id, source)
        return reason
