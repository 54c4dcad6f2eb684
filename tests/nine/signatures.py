"""The bridge's signatures, by real keys: senders sign with the key of the alias, the bridge verifies with its own.

The bridge reads its key from `KMS_KEY_ID` of its Deployment, so it verifies nothing after a rotation until it has been
told of the new key. Whoever stole the old key alters messages as long as the bridge believes that key.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from tests.nine.town import FAILURES, VERIFIED, Town

ALIAS = "alias/bridge-signing"
KEY_VARIABLE = "KMS_KEY_ID"
_ALGORITHM = "ECDSA_SHA_256"
_INSERT = "insert into audit_log (action, result, reason, key_id, source) values ('verify', $1, $2, $3, $4)"


class Signatures:
    """`kms` is an administrator's client. While `stolen` is the key that the bridge uses, altered messages come in."""

    def __init__(self, town: Town, bridge: asyncpg.Pool, kms: Any) -> None:
        self.stolen = ""
        self._town = town
        self._database = bridge
        self._kms = kms
        town.turns.append(self._turn)

    async def _turn(self) -> None:
        for pod in self._town.ready("bridge")[:1]:
            key = pod.env.get(KEY_VARIABLE, "")
            await self._note("" if await asyncio.to_thread(self._verifies, key) else "key_mismatch", key, "partner")
            if key and key == self.stolen:
                await self._note("tampered", key, "198.51.100.7")

    def _verifies(self, key: str) -> bool:
        """Whether the bridge's key fits what a sender has signed just now."""
        signed = self._kms.sign(KeyId=ALIAS, Message=b"transfer", SigningAlgorithm=_ALGORITHM)
        if not key:
            return False
        try:
            found = self._kms.verify(
                KeyId=key, Message=b"transfer", Signature=signed["Signature"], SigningAlgorithm=_ALGORITHM
            )
        except (self._kms.exceptions.KMSInvalidSignatureException, self._kms.exceptions.NotFoundException):
            return False
        except self._kms.exceptions.DisabledException:
            return False
        return bool(found["SignatureValid"])

    async def _note(self, reason: str, key: str, source: str) -> None:
        service = self._town.services["bridge"]
        service.count(FAILURES[reason] if reason else VERIFIED)
        if reason:
            self._town.log("bridge", "WARN", "signature_verification_failed", reason=reason, key_id=key, source=source)
        await self._database.execute(_INSERT, "failed" if reason else "ok", reason, key, source)
