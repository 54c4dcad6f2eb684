"""Signing keys on disk: made when none is configured, readable by their owner only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.response import signing

_PRIVATE, _PUBLIC = "signing.pem", "signing.pub.pem"


class KeyFileError(Exception):
    """A key file cannot be used; names the file and what to do."""


def load_private(path_or_pem: str | Path) -> Ed25519PrivateKey:
    """A signing key, from a file or as PEM text. Raises `KeyFileError`."""
    text, name = _text(path_or_pem)
    try:
        return signing.private_from_pem(text)
    except ValueError as error:
        raise KeyFileError(f"{name}: {error}") from error


def load_public(path_or_pem: str | Path) -> Ed25519PublicKey:
    """A public key, from a file or as PEM text. Raises `KeyFileError`."""
    text, name = _text(path_or_pem)
    try:
        return signing.public_from_pem(text)
    except ValueError as error:
        raise KeyFileError(f"{name}: {error}") from error


def signing_key(state_dir: Path, configured: str | Path | None = None) -> Ed25519PrivateKey:
    """The responder's key: the configured one, else the one in the state folder, made there if it is missing.

    Its public half is written beside it for executors. Raises `KeyFileError`.
    """
    if configured:
        return load_private(configured)
    file = state_dir / _PRIVATE
    if not file.exists():
        state_dir.mkdir(parents=True, exist_ok=True)
        _create(file, signing.private_pem(signing.generate()))
    if file.stat().st_mode & 0o077:
        raise KeyFileError(f"{file} can be read by others; `chmod 600` it, or remove it to have a new key made")
    key = load_private(file)
    public = signing.public_pem(key.public_key())
    beside = state_dir / _PUBLIC
    if not beside.exists() or beside.read_bytes() != public:
        beside.write_bytes(public)
    return key


def trusted_keys(state_dir: Path, configured: Iterable[str | Path] = ()) -> dict[str, Ed25519PublicKey]:
    """The executor's public keys by name: the configured ones, else the one in the state folder."""
    paths = list(configured)
    if not paths:
        if not (state_dir / _PUBLIC).exists():
            signing_key(state_dir)
        paths = [state_dir / _PUBLIC]
    return signing.public_keys(*(load_public(path) for path in paths))


def _text(path_or_pem: str | Path) -> tuple[str, str]:
    if isinstance(path_or_pem, str) and "-----BEGIN" in path_or_pem:
        return path_or_pem, "the given PEM text"
    try:
        return Path(path_or_pem).read_text(encoding="ascii"), str(path_or_pem)
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {path_or_pem}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path_or_pem} is not a PEM file") from error


def _create(file: Path, content: bytes) -> None:
    """Write a file whole and private; when two processes do it at once, the first one's stays."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    try:
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
