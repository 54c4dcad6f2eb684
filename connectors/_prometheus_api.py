"""What is asked of a Prometheus that can only be queried, and what its answers mean.

A range vector as an instant query (`{...}[15s]`) gives the raw samples with their own times, so that is what is asked,
piece by piece, each open on the left: what one piece ends with the next does not begin with.

    time       |---piece---](---piece---](---piece---]  now - settle
    samples      x  x  x  x   x  x  x      x
    live                                 yes        no  -> staleness marker at the end of the piece

Raw samples leave staleness markers out. So it is also asked which series are alive at the end of the last piece: one
that was, or that has sent since, and is not, gets its marker there.

API: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.expression import Selector
from engine.core.rules import RuleGroup
from engine.core.window import STALE

UP = "sentinel_source_up"


class ApiError(Exception):
    """The server answered, but not with samples; says what it said."""


@dataclass(frozen=True)
class Ask:
    """The series that some rules read, and how far back they look."""

    matchers: str
    reach_ms: int

    def covers(self, wanted: Ask | None) -> bool:
        """Whether all of another ask is had with this one."""
        return wanted is not None and wanted.matchers == self.matchers and wanted.reach_ms <= self.reach_ms

    def samples(self, piece: Piece) -> str:
        """The query for the raw samples of a piece, to be asked at its end."""
        return f"{{{self.matchers}}}[{piece.to_ms - piece.from_ms}ms]"

    def live(self) -> str:
        """The query for the series that are alive."""
        return f"{{{self.matchers}}}"


@dataclass(frozen=True)
class Piece:
    """A piece of time, open on the left and closed on the right."""

    from_ms: int
    to_ms: int


def asks(groups: Iterable[RuleGroup], scope: Sequence[str] = ()) -> list[Ask]:
    """What the rules of some groups read, each selector once, those that look back furthest first.

    `scope` are further matchers for all of them.
    """
    found: dict[str, int] = {}
    for selector in _metric_selectors(groups):
        matchers = ",".join([*map(str, selector.matches.matchers), *scope])
        found[matchers] = max(found.get(matchers, 0), selector.reach_ms)
    return sorted((Ask(*one) for one in found.items()), key=lambda ask: (-ask.reach_ms, ask.matchers))


def pieces(from_ms: int, to_ms: int, longest_ms: int) -> Iterator[Piece]:
    """A span of time cut into pieces, oldest first."""
    for start_ms in range(from_ms, to_ms, longest_ms):
        yield Piece(start_ms, min(start_ms + longest_ms, to_ms))


class _Series(Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Data(Struct, frozen=True):
    resultType: str  # noqa: N815  # the API's name
    result: list[_Series] = []


class _Answer(Struct, frozen=True):
    status: Literal["success", "error"]
    data: _Data | None = None
    error: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


def read_series(body: bytes, kind: Literal["matrix", "vector"]) -> list[tuple[bytes, list[tuple[float, str]]]]:
    """Canonical label bytes of every series of an answer, with its samples if it is a matrix. Raises `ApiError`.

    Native histograms are passed over.
    """
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"the answer is none of Prometheus's: {error}") from error
    if answer.status != "success" or answer.data is None:
        raise ApiError(answer.error or "an error without a reason")
    if answer.data.resultType != kind:
        raise ApiError(f"the answer is a {answer.data.resultType}, a {kind} was asked for")
    return [(label_sets.encode(one.metric), one.values) for one in answer.data.result]


class Collected:
    """The samples of one piece, as the answers come in. A series that several selectors read is taken once."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._series: list[bytes] = []
        self._t_ms: list[int] = []
        self._values: list[float] = []
        self._taken: set[bytes] = set()

    def add(self, body: bytes) -> set[bytes]:
        """Take the answer to one selector's query; which series it has. Raises `ApiError`."""
        answer = read_series(body, "matrix")
        for key, values in answer:
            if key in self._taken:
                continue
            self._taken.add(key)
            raw = key
            for at_s, text in values:
                t_ms = round(at_s * 1_000)
                if self._piece.from_ms < t_ms <= self._piece.to_ms:  # older servers close ranges on the left as well
                    self._series.append(raw)
                    self._t_ms.append(t_ms)
                    self._values.append(float(text))
        return {key for key, _ in answer}

    def end(self, gone: Set[bytes], name: str) -> Samples:
        """All samples, a marker at the end of the piece for each series that is gone, and the sign that it was read."""
        up = label_sets.encode({"__name__": UP, "source": name})
        ended = sorted(gone)
        series = [*self._series, *ended, up]
        t_ms = [*self._t_ms, *[self._piece.to_ms] * (len(ended) + 1)]
        return Samples(series, np.asarray(t_ms, np.int64), np.asarray([*self._values, *[STALE] * len(ended), 1.0]))


def _metric_selectors(groups: Iterable[RuleGroup]) -> Iterator[Selector]:
    for group in groups:
        for rule in group.rules:
            yield from (selector for selector in rule.expression.selectors if selector.kind == "metrics")
