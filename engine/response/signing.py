"""Ed25519 signatures on commands: whoever can write to the topic still cannot make an executor act.

What is signed is the command's exact JSON text, and what is executed is decoded from that same text after the
signature was checked, so there is nothing to canonicalise and nothing to disagree about. Keys on disk: `edge.keys`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.core.messages import Command, SignedCommand, decode_command, encode

PublicKeys = Mapping[str, Ed25519PublicKey]
Refusal = Literal["bad_signature", "unknown_key", "malformed"]


class SignatureRefusedError(Exception):
    """A signed command is not to be believed; `reason` is its name, the message says more."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


def generate() -> Ed25519PrivateKey:
    """A new signing key."""
    return Ed25519PrivateKey.generate()


def private_from_pem(pem: str | bytes) -> Ed25519PrivateKey:
    """The signing key of a PEM text (PKCS 8, not encrypted). Raises `ValueError` saying what is wrong."""
    try:
        key = serialization.load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("the private key is not an Ed25519 key")
    return key


def public_from_pem(pem: str | bytes) -> Ed25519PublicKey:
    """The public key of a PEM text. Raises `ValueError` saying what is wrong."""
    try:
        key = serialization.load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    except ValueError as error:
        raise ValueError(f"not a PEM public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the public key is not an Ed25519 key")
    return key


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """The PEM text of a signing key."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The PEM text of a public key."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def key_id(key: Ed25519PublicKey) -> str:
    """The name of a public key: the start of its SHA-256, in hex."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def public_keys(*keys: Ed25519PublicKey) -> dict[str, Ed25519PublicKey]:
    """Public keys by their name, as `verify` wants them; more than one while keys are being changed."""
    return {key_id(key): key for key in keys}


def sign(command: Command, key: Ed25519PrivateKey) -> SignedCommand:
    """The command's JSON with its signature."""
    return sign_body(encode(command).decode(), key)


def sign_body(body: str, key: Ed25519PrivateKey) -> SignedCommand:
    """A command that was already written as JSON (one that waited for approval, say), signed as it stands."""
    signature = base64.b64encode(key.sign(body.encode())).decode()
    return SignedCommand(body=body, signature=signature, key_id=key_id(key.public_key()))


def verify(signed: SignedCommand, known: PublicKeys) -> Command:
    """The command inside, once its signature holds. Raises `SignatureRefusedError`."""
    key = known.get(signed.key_id)
    if key is None:
        raise SignatureRefusedError("unknown_key", f"no key {signed.key_id!r} is configured")
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), signed.body.encode())
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise SignatureRefusedError("bad_signature", "the signature does not fit the body") from error
    try:
        return decode_command(signed.body)
    except (msgspec.DecodeError, ValueError) as error:
        raise SignatureRefusedError("malformed", f"the body is not a command: {error}") from error


def body_sha256(body: str) -> str:
    """The hash of a command's exact text, to which an approval is bound."""
    return hashlib.sha256(body.encode()).hexdigest()
