"""Keys are made once, private, and bad ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.edge import keys
from engine.response import signing
from tests.executor.conftest import block


def test_a_key_is_made_private_and_stays(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = keys.signing_key(state)
    assert (state / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert signing.private_pem(keys.signing_key(state)) == signing.private_pem(first)
    assert sorted(file.name for file in state.iterdir()) == ["signing.pem", "signing.pub.pem"]


def test_the_executor_trusts_the_key_of_the_state_folder_unless_told_otherwise(tmp_path: Path) -> None:
    signed = signing.sign(block(), keys.signing_key(tmp_path))
    assert signing.verify(signed, keys.trusted_keys(tmp_path)) == block()
    other = tmp_path / "other.pem"
    other.write_bytes(signing.public_pem(signing.generate().public_key()))
    with pytest.raises(signing.SignatureRefusedError) as refused:
        signing.verify(signed, keys.trusted_keys(tmp_path, [other]))
    assert refused.value.reason == "unknown_key"


def test_two_keys_are_trusted_while_one_replaces_the_other(tmp_path: Path) -> None:
    old, new = signing.generate(), signing.generate()
    files = []
    for name, key in (("old", old), ("new", new)):
        files.append(tmp_path / name)
        files[-1].write_bytes(signing.public_pem(key.public_key()))
    known = keys.trusted_keys(tmp_path, files)
    assert signing.verify(signing.sign(block(), old), known) == signing.verify(signing.sign(block(), new), known)


def test_a_key_comes_from_a_file_or_as_text(tmp_path: Path) -> None:
    pem = signing.private_pem(signing.generate())
    (tmp_path / "key.pem").write_bytes(pem)
    for given in (str(tmp_path / "key.pem"), tmp_path / "key.pem", pem.decode()):
        assert signing.private_pem(keys.load_private(given)) == pem


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keys.signing_key(tmp_path)
    (tmp_path / "signing.pem").chmod(0o644)
    with pytest.raises(keys.KeyFileError, match="can be read by others"):
        keys.signing_key(tmp_path)


def wrong_kind() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot read the key file"),
        (b"", "not an unencrypted PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----", "not an unencrypted PEM private key"),
        (b"\xff\xff", "not a PEM file"),
        (wrong_kind(), "not an Ed25519 key"),
    ],
)
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(keys.KeyFileError, match=why) as raised:
        keys.load_private(file)
    assert str(file) in str(raised.value)
