"""Reads Loki's test scripts (`load`, `clear`, `eval`; format: the corpus' README) into plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql import units

_STRING = r'"(?:\\.|[^"\\])*"|`[^`]*`'
_LABEL = re.compile(rf"([A-Za-z_]\w*)\s*=\s*({_STRING})")
_ENTRY = re.compile(
    rf"(?P<labels>\{{(?:{_STRING}|[^}}])*\}})\s*(?P<line>{_STRING})\s*@\s*(?P<start>\S+)"
    rf"(?:\s*\[repeat every\s+(?P<step>\S+)\s+for\s+(?P<count>\d+)\])?"
    rf"(?:\s*\[metadata\s+(?P<metadata>(?:{_STRING}|[^\]])*)\])?"
)
_EVAL = re.compile(
    r"eval\s+(?:instant\s+at\s+(?P<at>\S+)|range\s+from\s+(?P<from>\S+)\s+to\s+(?P<to>\S+)\s+step\s+(?P<step>\S+))\s+"
    r"(?P<expr>.+)$"
)
_RESULT = re.compile(rf"(\{{(?:{_STRING}|[^}}])*\}})\s*(.*)$")
_POINTS = re.compile(
    r"(_|[+-]?(?:Inf|NaN|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))(?:([+-](?:\d+\.?\d*|\.\d+))?x(\d+))?",
    re.IGNORECASE,
)
_COMMENT = re.compile(rf"({_STRING})|\s*#.*$")


@dataclass(frozen=True)
class Load:
    """Adds lines: (stream labels, entry)."""

    entries: list[tuple[Labels, LogEntry]]


@dataclass(frozen=True)
class Clear:
    """Forgets what was loaded."""


@dataclass(frozen=True)
class Unreadable:
    """A block that does not follow the format."""

    line: int
    reason: str


@dataclass
class Eval:
    """A query at one time (`step_ms` 0) or several, and what must come of it."""

    line: int
    query: str
    start_ms: int
    end_ms: int
    step_ms: int
    fails: bool = False
    fail_part: str = ""
    fail_regex: str = ""
    ordered: bool = False
    series: list[tuple[Labels, list[float | None]]] = field(default_factory=list)


Command = Load | Clear | Eval | Unreadable


def read(text: str) -> list[Command]:
    """The commands of a script, those that are not understood as `Unreadable`."""
    commands: list[Command] = []
    for number, line, body in _blocks(text):
        try:
            commands.append(_command(number, line, body))
        except ValueError as error:
            commands.append(Unreadable(number, str(error)))
    return commands


def _command(number: int, line: str, body: list[str]) -> Command:
    if line == "clear":
        return Clear()
    if line == "load":
        return Load([entry for part in body for entry in _entries(part)])
    return _eval(number, line, body)


def _blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    head: tuple[int, str, list[str]] | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub(lambda match: match[1] or "", raw).strip()
        if not line:
            continue
        if raw[0] in " \t" and head:
            head[2].append(line)
            continue
        if head:
            yield head
        head = (number, line, [])
    if head:
        yield head


def _entries(part: str) -> Iterator[tuple[Labels, LogEntry]]:
    match = _ENTRY.fullmatch(part)
    if match is None:
        raise ValueError(f"not an entry: {part}")
    labels, text = _labels(match["labels"]), units.unquote(match["line"])
    start_ms, step_ms = duration_ms(match["start"]), duration_ms(match["step"] or "0s")
    for i in range(int(match["count"] or 1)):
        line, metadata = (one.replace("{{.i}}", str(i)) for one in (text, match["metadata"] or ""))
        yield labels, LogEntry((start_ms + i * step_ms) * 1_000_000, line, _labels(metadata))


def _labels(text: str) -> Labels:
    return {name: units.unquote(value) for name, value in _LABEL.findall(text)}


def _eval(number: int, line: str, body: list[str]) -> Eval:
    match = _EVAL.match(line)
    if match is None:
        raise ValueError(f"line {number}: not understood: {line}")
    start, end, step = match["at"] or match["from"], match["at"] or match["to"], match["step"] or "0s"
    result = Eval(number, match["expr"], duration_ms(start), duration_ms(end), duration_ms(step))
    for part in body:
        if part.startswith("skip "):
            continue
        if part.startswith("expect"):
            _expect(result, part)
        else:
            found = _RESULT.match(part)
            labels, points = ("{}", part) if found is None else (found[1], found[2])  # a scalar is a bare number
            result.series.append((_labels(labels), [point for word in points.split() for point in _points(word)]))
    return result


def _expect(result: Eval, part: str) -> None:
    if part.startswith("expect fail"):
        result.fails = True
        kind, _, detail = part.removeprefix("expect fail").strip().partition(":")
        if kind == "msg":
            result.fail_part = detail.strip()
        elif kind == "regex":
            result.fail_regex = detail.strip()
    elif part == "expect ordered":
        result.ordered = True
    elif part not in ("expect empty", "expect no_warn", "expect no_info"):
        raise ValueError(f"expectation not understood: {part}")


def _points(word: str) -> list[float | None]:
    """The points that a word stands for: `5`, `_`, `1+2x3` (1 3 5 7), `4x3` (4 4 4 4), `_x3` (three times none)."""
    match = _POINTS.fullmatch(word)
    if match is None:
        raise ValueError(f"not a point: {word}")
    first, step, times = match.groups()
    if first == "_":
        return [None] * int(times or 1)
    return [float(first) + float(step or 0) * i for i in range(int(times or 0) + 1)]


def duration_ms(text: str) -> int:
    """A duration such as `1300ms`; a bare number is seconds."""
    return round(float(text) * 1000) if text.isdigit() else round(units.literal_duration_s(text) * 1000)
