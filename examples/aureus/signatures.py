"""Signed messages: Ed25519 signatures with a time to live, and the directory that carries public keys.

`verify` is pure. Signers publish a public key as a file in the key directory; bridge reads the directory only when
told to, which is why a rotation that nobody tells bridge about makes every signature fail.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Reason = Literal["ttl_expired", "key_mismatch", "tampered"]
REASONS: tuple[Reason, ...] = ("ttl_expired", "key_mismatch", "tampered")


class Payload(msgspec.Struct, frozen=True):
    """What a signer says: who it is, when it said it (ms), and the message itself."""

    source: str
    issued_ms: int
    body: str


class SignedMessage(msgspec.Struct, frozen=True):
    """A payload (JSON text of `Payload`), valid for `ttl` seconds, with the signature over key_id, ttl and payload."""

    key_id: str
    ttl: int
    payload: str
    signature: str

    def signed_bytes(self) -> bytes:
        """The bytes the signature covers."""
        return f"{self.key_id}\n{self.ttl}\n{self.payload}".encode()


class KeySet(msgspec.Struct, frozen=True):
    """The public keys known at one moment and which of them signers use now."""

    keys: dict[str, Ed25519PublicKey]
    current: str


def verify(message: SignedMessage, keys: KeySet, now_ms: int) -> Reason | None:
    """Why a message must not be believed, or None.

    The signature is looked at before the age: an altered message is tampering however old it is.
    """
    key = keys.keys.get(message.key_id)
    if key is None:
        return "key_mismatch"
    try:
        key.verify(base64.b64decode(message.signature, validate=True), message.signed_bytes())
        payload = msgspec.json.decode(message.payload, type=Payload)
    except (InvalidSignature, binascii.Error, msgspec.MsgspecError):
        return "tampered"
    return "ttl_expired" if now_ms > payload.issued_ms + 1000 * message.ttl else None


def claimed_source(message: SignedMessage) -> str:
    """The source a message names, believed or not; "unknown" if it cannot be read."""
    try:
        return msgspec.json.decode(message.payload, type=Payload).source
    except msgspec.MsgspecError:
        return "unknown"


class Signer:
    """A private key with its name."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self._private_key = Ed25519PrivateKey.generate()
        self.public_key = self._private_key.public_key()

    def sign(self, payload: Payload, ttl: int) -> SignedMessage:
        """A message valid for `ttl` seconds from `payload.issued_ms`."""
        unsigned = SignedMessage(self.key_id, ttl, msgspec.json.encode(payload).decode(), "")
        signature = base64.b64encode(self._private_key.sign(unsigned.signed_bytes())).decode()
        return msgspec.structs.replace(unsigned, signature=signature)


class KeyDirectory:
    """Public keys as files: `<key_id>.pub` (base64 of the 32 bytes), and `current` with the id in use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def publish(self, key_id: str, public_key: Ed25519PublicKey) -> None:
        """Add a public key and name it the current one."""
        self._write(f"{key_id}.pub", base64.b64encode(public_key.public_bytes_raw()).decode())
        self.name_current(key_id)

    def name_current(self, key_id: str) -> None:
        """Say which key signers use now."""
        self._write("current", key_id)

    def load(self) -> KeySet:
        """Every published key; none yet is an empty set."""
        keys = {
            file.stem: Ed25519PublicKey.from_public_bytes(base64.b64decode(file.read_text()))
            for file in sorted(self._path.glob("*.pub"))
        }
        current = self._path / "current"
        return KeySet(keys, current.read_text() if current.exists() else "")

    def _write(self, name: str, text: str) -> None:
        partial = self._path / f".{name}.partial"
        partial.write_text(text)
        partial.replace(self._path / name)  # so that a reader never sees half a key
