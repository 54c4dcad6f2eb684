"""Reads Prometheus's test scripts (`load`, `clear`, `eval`; format: the corpus' README) into plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import promql_parser

from engine.core.labels import Labels
from engine.core.window import STALE

HISTOGRAM = "histogram"
Point = float | None | str
_NUMBER = r"[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_POINTS = re.compile(rf"({_NUMBER}|_|stale|\{{\{{.*\}}\}})(?:([-+])({_NUMBER}))?(?:x(\d+))?", re.IGNORECASE)
_WORD = re.compile(r"\{\{.*?\}\}\S*|\S+")
_SERIES = re.compile(r'\s*([a-zA-Z_:][\w:.]*)?\s*(?:\{((?:[^"{}]|"(?:\\.|[^"\\])*")*)\})?(?=\s|$)\s*(.*)$')
_LABEL = re.compile(r'\s*("(?:\\.|[^"\\])*"|[\w.:]+)\s*(?:=\s*("(?:\\.|[^"\\])*"))?\s*,?')
_EVAL = re.compile(
    r"eval(?:_(fail|ordered|warn|info))?\s+(?:instant\s+(?:at\s+(?P<at>\S+)\s+)?"
    r"|range\s+from\s+(?P<from>\S+)\s+to\s+(?P<to>\S+)\s+step\s+(?P<step>\S+)\s+)(?P<expr>.+)$"
)
_DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
_UNIT_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


@dataclass(frozen=True)
class Series:
    """A series with its points; the n-th stands at the n-th step."""

    labels: Labels
    points: list[Point]


@dataclass(frozen=True)
class Load:
    """Adds series; with `custom_buckets` also the histogram form of classic ones."""

    step_ms: int
    series: list[Series]
    custom_buckets: bool


@dataclass(frozen=True)
class Clear:
    """Forgets what was loaded."""


@dataclass
class Eval:
    """An expression at one time (`step_ms` 0) or several, and what must come of it."""

    line: int
    expression: str
    start_ms: int
    end_ms: int
    step_ms: int
    fails: bool = False
    ordered: bool = False
    text: str | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    scalar: float | None = None
    series: list[Series] = field(default_factory=list)


def read(text: str) -> list[Load | Clear | Eval]:
    """The commands of a script."""
    commands: list[Load | Clear | Eval] = []
    for number, line, body in _blocks(text):
        if line.startswith("clear"):
            commands.append(Clear())
        elif line.startswith("load"):
            word, step = line.split()[:2]
            series = [parse_series(part) for part in body]
            commands.append(Load(duration_ms(step), series, word == "load_with_nhcb"))
        else:
            commands.append(_eval(number, line, body))
    return commands


def _blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    head: tuple[int, str, list[str]] | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if raw[0] in " \t" and head:
            head[2].append(line)
            continue
        if head:
            yield head
        head = (number, line, [])
    if head:
        yield head


def _eval(number: int, line: str, body: list[str]) -> Eval:
    match = _EVAL.match(line)
    if match is None:
        raise ValueError(f"line {number}: not understood: {line}")
    start, end, step = match["at"] or match["from"] or "0", match["at"] or match["to"] or "0", match["step"] or "0"
    result = Eval(number, match["expr"], duration_ms(start), duration_ms(end), duration_ms(step))
    result.fails, result.ordered = match[1] == "fail", match[1] == "ordered"
    for part in body:
        if part.startswith("expect") or part.startswith("expected_fail"):
            _expect(result, part)
        elif _SERIES.match(part) and not re.fullmatch(_NUMBER, part, re.IGNORECASE):
            result.series.append(parse_series(part))
        else:
            result.scalar = to_float(part)
    return result


def _expect(result: Eval, part: str) -> None:
    _, kind, *rest = part.split(None, 2)
    detail = rest[0] if rest else ""
    if kind == "fail" or part.startswith("expected_fail"):
        result.fails = True
    elif kind == "ordered":
        result.ordered = True
    elif kind == "string":
        result.text = unquote(detail)
    elif kind in ("warn", "info"):
        result.notes.append((kind, detail))
    elif kind in ("no_warn", "no_info"):
        result.silent.add(kind.removeprefix("no_"))
    else:
        raise ValueError(f"expectation not understood: {part}")


def parse_series(text: str) -> Series:
    """`name{labels} points`."""
    match = _SERIES.match(text)
    if match is None:
        raise ValueError(f"not a series: {text}")
    labels = {"__name__": match[1]} if match[1] else {}
    for name, value in _LABEL.findall(match[2] or ""):
        name = unquote(name) if name.startswith('"') else name
        labels.update({name: unquote(value)} if value else {"__name__": name})
    points = [point for word in _WORD.findall(match[3]) for point in expand(word)]
    return Series({n: v for n, v in labels.items() if v}, points)


def expand(word: str) -> list[Point]:
    """The points that one word of the notation stands for."""
    match = _POINTS.fullmatch(word)
    if match is None:
        return [HISTOGRAM]
    start, sign, change, times = match.groups()
    count = int(times) if times else 0
    if start == "_":
        return [None] * max(1, count)
    if start == "stale":
        return [STALE] * max(1, count)
    if start.startswith("{{"):
        return [HISTOGRAM] * (count + 1)
    value = to_float(start)
    delta = to_float(change) * (-1 if sign == "-" else 1) if change else 0.0
    result: list[Point] = [value]
    for _ in range(count):
        value += delta
        result.append(value)
    return result


def to_float(text: str) -> float:
    """A number as Go writes it."""
    return float(text)


def unquote(text: str) -> str:
    """The content of a string literal, read by the parser itself."""
    literal = promql_parser.parse(f'"{text[1:-1]}"' if text[0] != "`" else text)
    return str(cast(promql_parser.StringLiteral, literal).val)


def duration_ms(text: str) -> int:
    """A duration (`5m30s`), or a number of seconds."""
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-")
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return sign * round(float(text) * 1000)
    return sign * sum(int(number) * _UNIT_MS[unit] for number, unit in parts)
