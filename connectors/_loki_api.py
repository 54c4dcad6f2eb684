"""What is asked of a Loki that is read, what its answers mean, and which of its lines were taken already.

Lines come twice by design: early from the tail, which may lose some without a word, and again from a query over a span
of time that lies so far back that every line of it is there. `Taken` tells which are new, and how many of a span there
are, so that where Loki counts as many there is nothing to fetch.

    event time  --------(complete)=====span=====(now - lateness)........now
    tail                            x   x      x                 x  x        early, may lack some
    count                          4 in the span, 3 taken                    so the span is fetched: one line is new

API: https://grafana.com/docs/loki/latest/reference/loki-http-api/
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from engine.core import labels as label_sets
from engine.core.expression import Selector
from engine.core.messages import LogEntry, LogStream
from engine.core.rules import RuleGroup

ENCODING_FLAGS = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
"""A request header that has structured metadata told apart from stream labels (Loki 3; older ones pass over it)."""


class ApiError(Exception):
    """Loki answered, but not with what was asked for; says what it said."""


@dataclass(frozen=True)
class Scope:
    """Streams that are read together: Loki's stream selector, and how far back it is looked."""

    selector: str
    reach_ms: int


def scopes(groups: Iterable[RuleGroup], selectors: Iterable[str] = ()) -> list[Scope]:
    """What is to be read: the given selectors, else those of the rules without those that another one includes.

    A selector with more conditions chooses fewer streams: `{a="1", b="2"}` is not read where `{a="1"}` is. All go back
    as far as any rule looks.
    """
    wanted: dict[frozenset[str], str] = {}
    reach_ms = 0
    for one in _log_selectors(groups):
        reach_ms = max(reach_ms, one.reach_ms)
        texts = sorted(map(str, one.matches.matchers))
        wanted[frozenset(texts)] = "{" + ",".join(texts) + "}"
    given = list(dict.fromkeys(selectors))
    if given:
        return [Scope(text, reach_ms) for text in given] if wanted else []
    widest = [text for conditions, text in wanted.items() if not any(other < conditions for other in wanted)]
    return [Scope(text, reach_ms) for text in sorted(widest)]


def _log_selectors(groups: Iterable[RuleGroup]) -> Iterator[Selector]:
    for group in groups:
        for rule in group.rules:
            yield from (selector for selector in rule.expression.selectors if selector.kind == "logs")


class _Beside(Struct, frozen=True, rename={"metadata": "structuredMetadata"}):
    metadata: dict[str, str] = {}


class _Entry(Struct, frozen=True, array_like=True):
    t_ns: int
    line: str
    beside: _Beside = _Beside()


class _Stream(Struct, frozen=True):
    stream: dict[str, str]
    values: list[_Entry]


class _Dropped(Struct, frozen=True):
    timestamp: int


class _Tailed(Struct, frozen=True):
    streams: list[_Stream] | None = None
    dropped_entries: list[_Dropped] | None = None


class _Sample(Struct, frozen=True):
    value: tuple[float, str]


class _Data(Struct, frozen=True):
    resultType: Literal["streams", "vector"]  # noqa: N815  # the API's name
    result: Raw


class _Answer(Struct, frozen=True):
    status: Literal["success"]
    data: _Data


# Not strict: times are strings of digits in these formats, and are wanted as integers.
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_streams = msgspec.json.Decoder(list[_Stream], strict=False).decode
_decode_vector = msgspec.json.Decoder(list[_Sample]).decode
_decode_tailed = msgspec.json.Decoder(_Tailed, strict=False).decode


def read_streams(body: bytes) -> list[LogStream]:
    """The streams of an answer to a log query, entries oldest first. Raises `ApiError`."""
    try:
        return _streams(_decode_streams(_data(body, "streams")))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"the streams cannot be read: {error}") from error


def read_count(body: bytes) -> int:
    """The number that an instant query for a count gives; 0 for no result. Raises `ApiError`."""
    try:
        found = _decode_vector(_data(body, "vector"))
        return sum(int(float(sample.value[1])) for sample in found)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ApiError(f"the count cannot be read: {error}") from error


def read_tailed(message: bytes) -> tuple[list[LogStream], int]:
    """The streams of a message of the tail, and how many lines Loki says that it left out. Raises `ApiError`."""
    try:
        tailed = _decode_tailed(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"the tail's message cannot be read: {error}") from error
    return _streams(tailed.streams or []), len(tailed.dropped_entries or [])


def _data(body: bytes, kind: str) -> Raw:
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"the answer is none of Loki's: {error}") from error
    if answer.data.resultType != kind:
        raise ApiError(f"the answer is of kind {answer.data.resultType}, {kind} was asked for")
    return answer.data.result


def _streams(sent: Iterable[_Stream]) -> list[LogStream]:
    """One stream for each label set: the tail sends every line as a stream of its own."""
    found: dict[bytes, list[LogEntry]] = {}
    for stream in sent:
        entries = found.setdefault(label_sets.encode(stream.stream), [])
        entries.extend(LogEntry(entry.t_ns, entry.line, entry.beside.metadata) for entry in stream.values)
    for entries in found.values():
        entries.sort(key=attrgetter("t_ns"))
    return [LogStream(Raw(labels), entries) for labels, entries in found.items() if entries]


def count_query(selector: str, span_ms: int) -> str:
    """The query for the number of lines in the `span_ms` before and at the time it is asked for."""
    return f"sum(count_over_time({selector}[{span_ms}ms]))"


class Taken:
    """Which lines were taken, as far back as is remembered.

    A line is its stream, time, text and structured metadata, as for Loki, which keeps one of equal lines. `scope` is
    the number of what it was read by: a line that several scopes hold is taken once and counts for each.
    """

    def __init__(self) -> None:
        self._lines: dict[int, tuple[int, int]] = {}  # hash -> time, and by bits the scopes it came from
        self._counts: defaultdict[int, Counter[int]] = defaultdict(Counter)  # scope -> millisecond -> lines

    def add(self, streams: Iterable[LogStream], scope: int) -> list[LogStream]:
        """Take lines; those of them that are new."""
        bit, lines, counts = 1 << scope, self._lines, self._counts[scope]
        found: list[LogStream] = []
        for stream in streams:
            labels = bytes(stream.labels)
            fresh = []
            for entry in stream.entries:
                key = _line(labels, entry)
                _, bits = lines.get(key, (0, 0))
                if not bits:
                    fresh.append(entry)
                if not bits & bit:
                    lines[key] = (entry.t_ns, bits | bit)
                    counts[entry.t_ns // 1_000_000] += 1
            if fresh:
                found.append(LogStream(stream.labels, fresh))
        return found

    def remove(self, streams: Iterable[LogStream]) -> None:
        """Lines that were new are not taken after all."""
        for stream in streams:
            labels = bytes(stream.labels)
            for entry in stream.entries:
                _, bits = self._lines.pop(_line(labels, entry), (0, 0))
                for scope, counts in self._counts.items():
                    if bits & 1 << scope:
                        counts[entry.t_ns // 1_000_000] -= 1

    def count(self, scope: int, from_ms: int, to_ms: int) -> int:
        """How many lines of a scope are taken from `from_ms` up to but not at `to_ms`."""
        return sum(number for t_ms, number in self._counts[scope].items() if from_ms <= t_ms < to_ms)

    def forget(self, before_ms: int) -> None:
        """Forget lines that are older."""
        before_ns = before_ms * 1_000_000
        self._lines = {key: one for key, one in self._lines.items() if one[0] >= before_ns}
        for scope, counts in self._counts.items():
            self._counts[scope] = Counter({t_ms: number for t_ms, number in counts.items() if t_ms >= before_ms})


def _line(labels: bytes, entry: LogEntry) -> int:
    return hash((labels, entry.t_ns, entry.line, frozenset(entry.metadata.items())))
