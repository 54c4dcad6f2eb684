"""A bundle: recorded topics and the rules of then, in one file that reproduces an incident on any laptop.

The file is gzip-compressed JSON lines: a manifest, then every message as it was on its topic, in the order it was
recorded, then an end line with their number and the hash of everything before it, so that a cut or altered file is
noticed. `zcat FILE | jq` reads it.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import msgspec
from msgspec import Raw, Struct

FORMAT = "sentinel-bundle/1"


class BundleError(Exception):
    """A file is not a whole, unaltered bundle."""


class RuleConfig(Struct, frozen=True):
    """The evaluator's settings of then: without them the same events could give other alerts."""

    shards: int
    eager_per_s: int
    eager_grid_ms: int
    source_idle_ms: int
    external_labels: dict[str, str]
    external_url: str


class Manifest(Struct, frozen=True):
    """What a bundle is: when and by which version it was made, the rule files (by name) and their settings."""

    format: str
    version: str
    created_ms: int
    rules: dict[str, str]
    config: RuleConfig


class Recorded(Struct, frozen=True, array_like=True):
    """One message: topic (without prefix), partition, offset, and its JSON object as it was.

    Bytes that are no JSON object (what made a message poison must be seen again, too) stand as a base64 string.
    """

    topic: str
    partition: int
    offset: int
    value: Raw

    @property
    def content(self) -> bytes:
        """The message's bytes, as they were on the topic."""
        value = bytes(self.value)
        return value if value.startswith(b"{") else msgspec.json.decode(value, type=bytes)


class _End(Struct, frozen=True):
    messages: int
    sha256: str


_encode = msgspec.json.Encoder().encode
_check_json = msgspec.json.Decoder(Raw).decode


class BundleWriter:
    """Writes a bundle; a context manager. The end line is only written when the block ends without an error."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._file = gzip.GzipFile(path, "wb", compresslevel=6)
        self._hash = hashlib.sha256()
        self.messages = 0
        self._line(_encode(manifest))

    def add(self, topic: str, partition: int, offset: int, value: bytes) -> None:
        """Add one message, whatever its bytes."""
        self._line(_encode(Recorded(topic, partition, offset, _as_json(value))))
        self.messages += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            end = _End(self.messages, self._hash.hexdigest())
            self._file.write(_encode(end) + b"\n")
        self._file.close()

    def _line(self, line: bytes) -> None:
        self._hash.update(line + b"\n")
        self._file.write(line + b"\n")


def _as_json(value: bytes) -> Raw:
    """A JSON object on one line as it is, anything else as a base64 string."""
    if value.startswith(b"{") and b"\n" not in value:
        with contextlib.suppress(msgspec.DecodeError):
            return _check_json(value)
    return Raw(b'"%b"' % base64.b64encode(value))


class BundleReader:
    """Reads a bundle; a context manager. `messages` raises `BundleError` at the end if the file is not whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._raw = path.open("rb")
        self._file: IO[bytes] = cast(IO[bytes], io.BufferedReader(gzip.GzipFile(fileobj=self._raw)))
        self._hash = hashlib.sha256()
        try:
            first = self._file.readline()
            self.manifest = msgspec.json.decode(first, type=Manifest)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            self.close()
            raise BundleError(f"{path} is not a Sentinel bundle: {error}") from error
        if self.manifest.format != FORMAT:
            self.close()
            raise BundleError(f"{path} has format {self.manifest.format!r}; this version reads {FORMAT!r}")
        self._hash.update(first)

    @property
    def progress(self) -> float:
        """How much of the file has been read, from 0 to 1."""
        return min(1.0, self._raw.tell() / self._size) if self._size else 1.0

    def messages(self) -> Iterator[Recorded]:
        """Every message, in recorded order."""
        decode = msgspec.json.Decoder(Recorded).decode
        count = 0
        try:
            for line in self._file:
                if line.startswith(b"{"):
                    self._check_end(msgspec.json.decode(line, type=_End), count)
                    return
                self._hash.update(line)
                count += 1
                yield decode(line)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise BundleError(f"{self._path} is damaged after message {count}: {error}") from error
        raise BundleError(f"{self._path} is cut off after message {count}")

    def _check_end(self, end: _End, count: int) -> None:
        if end.messages != count or end.sha256 != self._hash.hexdigest():
            raise BundleError(f"{self._path} was altered: its {count} messages do not match its end line")

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
