"""The partners that send signed messages to bridge, and the key they share."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time

import aiohttp
import msgspec

from examples.aureus.signatures import KeyDirectory, Payload, SignedMessage, Signer

PARTNERS = ("billing", "ledger", "notary")
MESSAGE_GAP_MEAN_S = 0.8  # per partner: together about 3.7 messages a second
TTL_S = 30
LATE_SHARE = 0.03  # messages that arrive after their time to live, as always happens

_console = logging.getLogger(__name__)


class SigningDesk:
    """The key all partners sign with, and its rotation."""

    def __init__(self, session: aiohttp.ClientSession, bridge: str, directory: KeyDirectory) -> None:
        self._session = session
        self._bridge = bridge
        self._directory = directory
        self._numbers = itertools.count(1)
        self.signer = self._new_signer()
        self._previous = self.signer
        directory.publish(self.signer.key_id, self.signer.public_key)

    async def install_first_key(self, admin_token: str) -> None:
        """What a deployment does once: let bridge read the first key. Raises `aiohttp.ClientError`."""
        url, headers = f"{self._bridge}/api/admin/keys/reload", {"Authorization": f"Bearer {admin_token}"}
        async with self._session.post(url, headers=headers) as response:
            response.raise_for_status()

    async def rotate(self) -> tuple[str, str]:
        """Sign with a new key from now on; it is published and announced, but bridge does not load it by itself.

        Returns the old and the new key id.
        """
        old, new = self.signer, self._new_signer()
        self._directory.publish(new.key_id, new.public_key)
        announcement = old.sign(Payload("key-office", _now_ms(), new.key_id), TTL_S)
        await self.send(announcement, path="/keys/rotation")
        self.signer, self._previous = new, old
        return old.key_id, new.key_id

    def roll_back(self) -> str:
        """Sign with the key from before the last rotation again; returns its id."""
        self.signer = self._previous
        self._directory.name_current(self.signer.key_id)
        return self.signer.key_id

    def message(self, source: str, body: str, *, late: bool = False) -> SignedMessage:
        """A message signed now, or (late) one whose time to live has passed."""
        age_ms = (TTL_S + 60) * 1000 if late else 0
        return self.signer.sign(Payload(source, _now_ms() - age_ms, body), TTL_S)

    async def send(self, message: SignedMessage, path: str = "/verify") -> bool:
        """Hand a message to bridge; False if it could not be delivered or was not accepted."""
        body = msgspec.json.encode(message)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(f"{self._bridge}{path}", data=body, headers=headers) as response:
                await response.read()
                return response.ok
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _console.debug("bridge did not take a message: %s", error)
            return False

    def _new_signer(self) -> Signer:
        return Signer(f"key-{next(self._numbers)}")


async def partner(desk: SigningDesk, source: str, rng: random.Random) -> None:
    """One partner's ordinary traffic. Never ends."""
    while True:
        await asyncio.sleep(rng.expovariate(1 / MESSAGE_GAP_MEAN_S))
        late = rng.random() < LATE_SHARE
        await desk.send(desk.message(source, f"order {rng.randrange(100_000)}", late=late))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
