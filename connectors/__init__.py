"""The connectors: one file per source of metrics or logs, and this folder is their registry.

A connector turns the bytes of one source's wire format into typed events, and does nothing else: no clock, no network,
no state beyond caches. A module in this folder whose name does not begin with an underscore *is* a connector: it has a
`CONNECTOR`, which `discover` finds and the contract tests run over. To add a source, add a file.

    Prometheus  --remote_write-->|
    exporters   --scrape-------->|  decode(body, headers, received_ms) -> Decoded  --> engine.core.sources
    Loki agents --loki_push----->|
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.core.batching import Events
from engine.core.sources import Kind, SourceTiming


class DecodeError(Exception):
    """A body that cannot be used, whole: nothing of it may be taken.

    `reason` is a short name for counters, `detail` says what is wrong and where, `status` is the HTTP answer.
    """

    def __init__(self, reason: str, detail: str, status: int = 400) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.status = status


@dataclass(frozen=True)
class Decoded:
    """The events of one body, and by reason how many things in it are of a kind that Sentinel does not use."""

    events: Events
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """What became of the events of one body: how many the broker has, and by reason how many were kept out."""

    accepted: int
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a sender is told once the broker has its events."""

    status: int = 204
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def success(taken: Taken) -> Answer:
    """The usual answer: whatever was kept out is counted, not told."""
    del taken
    return Answer()


Decode = Callable[[bytes, Mapping[str, str], int], Decoded]


@dataclass(frozen=True)
class Connector:
    """One source's wire format.

    `decode(body, headers, received_ms)` is pure; events without a time of their own happened at `received_ms`; it
    raises `DecodeError` and nothing else. Header names are as HTTP writes them ("Content-Type"). `path` is where a
    receiver serves it, empty for a source that Sentinel reads itself. `timing` is the default for its sources.
    `answer` is what the sender hears when the broker has what could be taken of its body; a body refused as a whole is
    answered by its `DecodeError`.
    """

    name: str
    kind: Kind
    decode: Decode
    timing: SourceTiming
    path: str = ""
    content_types: tuple[str, ...] = ()
    answer: Callable[[Taken], Answer] = success


def discover() -> list[Connector]:
    """Every connector in this folder, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    found = [importlib.import_module(f"{__name__}.{name}").CONNECTOR for name in names]
    return [connector for connector in found if isinstance(connector, Connector)]
