"""Real Ed25519 signatures: what is believed, and the reason when not."""

import base64
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.aureus.signatures import (
    KeyDirectory,
    KeySet,
    Payload,
    SignedMessage,
    Signer,
    claimed_source,
    verify,
)

OLD, NEW = Signer("key-1"), Signer("key-2")
KNOWN = KeySet({"key-1": OLD.public_key}, "key-1")
ISSUED_MS, TTL_S = 1_000_000, 30
GENUINE = OLD.sign(Payload("billing", ISSUED_MS, "pay 5"), TTL_S)


@pytest.mark.parametrize(
    ("message", "now_ms", "expected"),
    [
        (GENUINE, ISSUED_MS, None),
        (GENUINE, ISSUED_MS + 30_000, None),
        (GENUINE, ISSUED_MS + 30_001, "ttl_expired"),
        (NEW.sign(Payload("billing", ISSUED_MS, "pay 5"), TTL_S), ISSUED_MS, "key_mismatch"),
        (msgspec.structs.replace(GENUINE, ttl=3000), ISSUED_MS, "tampered"),
        (msgspec.structs.replace(GENUINE, signature="not base64!"), ISSUED_MS, "tampered"),
        (msgspec.structs.replace(GENUINE, payload="{}"), ISSUED_MS + 99_000, "tampered"),
        (msgspec.structs.replace(NEW.sign(Payload("x", 0, ""), 1), key_id="key-1"), ISSUED_MS, "tampered"),
    ],
)
def test_a_message_is_believed_or_refused_with_its_reason(
    message: SignedMessage, now_ms: int, expected: str | None
) -> None:
    assert verify(message, KNOWN, now_ms) == expected


@given(position=st.integers(0, len(GENUINE.payload) - 1), character=st.characters(codec="ascii"))
def test_any_altered_character_of_the_payload_is_tampering(position: int, character: str) -> None:
    payload = GENUINE.payload[:position] + character + GENUINE.payload[position + 1 :]
    expected = None if payload == GENUINE.payload else "tampered"
    assert verify(msgspec.structs.replace(GENUINE, payload=payload), KNOWN, ISSUED_MS) == expected


@given(st.binary(max_size=80))
def test_no_signature_bytes_make_the_verifier_fail(signature: bytes) -> None:
    forged = msgspec.structs.replace(GENUINE, signature=base64.b64encode(signature).decode())
    assert verify(forged, KNOWN, ISSUED_MS) == "tampered"


def test_a_signature_by_a_key_whose_payload_is_no_payload_is_tampering() -> None:
    unsigned = SignedMessage("key-1", TTL_S, "no JSON", "")
    signature = base64.b64encode(OLD._private_key.sign(unsigned.signed_bytes())).decode()
    message = msgspec.structs.replace(unsigned, signature=signature)
    assert verify(message, KNOWN, ISSUED_MS) == "tampered"
    assert claimed_source(message) == "unknown"


def test_the_key_directory_gives_back_what_was_published(tmp_path: Path) -> None:
    directory = KeyDirectory(tmp_path)
    assert directory.load() == KeySet({}, "")
    directory.publish("key-1", OLD.public_key)
    directory.publish("key-2", NEW.public_key)
    loaded = directory.load()
    assert (sorted(loaded.keys), loaded.current) == (["key-1", "key-2"], "key-2")
    assert verify(GENUINE, loaded, ISSUED_MS) is None
