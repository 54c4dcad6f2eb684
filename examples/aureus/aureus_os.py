"""aureus-os: the policy engine. What is not allowed is a violation, and every violation leaves a row."""

from __future__ import annotations

import asyncpg
import msgspec
from aiohttp import web
from prometheus_client import Counter

from examples.aureus.database import record
from examples.aureus.service import Kit, read_body

ALLOWED_ACTIONS = ("chat", "search", "summarise", "translate")
FORBIDDEN_ACTIONS = {
    "export-customers": "data-exfiltration",
    "override-prompt": "prompt-injection",
    "run-shell": "code-execution",
}
DEFAULT_POLICY = "unknown-action"
POLICY_IDS = (*FORBIDDEN_ACTIONS.values(), DEFAULT_POLICY)

_INSERT = "INSERT INTO policy_violations (policy_id, source_user, source_channel) VALUES ($1, $2, $3)"


class Decide(msgspec.Struct, frozen=True):
    """The question: may this user do this on this channel?"""

    user: str
    channel: str
    action: str


def broken_policy(action: str) -> str | None:
    """The policy an action breaks, or None: what is not expressly allowed is not allowed."""
    if action in ALLOWED_ACTIONS:
        return None
    return FORBIDDEN_ACTIONS.get(action, DEFAULT_POLICY)


class AureusOs:
    """The service: stateless, apart from its counters and table."""

    def __init__(self, kit: Kit, pool: asyncpg.Pool) -> None:
        self.kit = kit
        self._pool = pool
        self._violations = Counter(
            "aureus_os_policy_violations", "Actions that broke a policy.", ["policy_id"], registry=kit.registry
        )
        for policy_id in POLICY_IDS:
            self._violations.labels(policy_id)  # a counter that starts at 0 shows its first increase

    def routes(self) -> list[web.RouteDef]:
        """One question."""
        return [web.post("/decide", self.decide)]

    def unhealthy(self) -> str:
        """The engine needs nothing to decide."""
        return ""

    async def run(self) -> None:
        """The engine does nothing by itself."""

    async def stop(self) -> None:
        """The engine holds no long connections."""

    async def decide(self, request: web.Request) -> web.Response:
        """`{user, channel, action}` -> `{"decision": "allow"|"violation", "policy_id": ...}`."""
        asked = await read_body(request, Decide)
        policy_id = broken_policy(asked.action)
        if policy_id is None:
            self.kit.log("info", "policy_allowed", user=asked.user, channel=asked.channel, action=asked.action)
            return web.json_response({"decision": "allow", "policy_id": None})
        self._violations.labels(policy_id).inc()
        self.kit.log("warning", "policy_violation", user=asked.user, channel=asked.channel, policy_id=policy_id)
        await record(self.kit, self._pool, _INSERT, policy_id, asked.user, asked.channel)
        return web.json_response({"decision": "violation", "policy_id": policy_id})
