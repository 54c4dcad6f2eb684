"""Reads Prometheus's test scripts (`load`, `clear`, `eval`; format: the corpus' README) into plain data.

A command is a line, with the lines below it up to an empty one or the next command. What cannot be read is a command of
its own kind, `Unreadable`, so that one new form does not hide the rest of a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import promql_parser

from engine.core.labels import Labels
from engine.core.window import STALE

HISTOGRAM = "histogram"
Point = float | None | str
_NUMBER = r"[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_STRING = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`'
_POINTS = re.compile(rf"({_NUMBER}|_|stale|\{{\{{.*\}}\}})(?:([-+])({_NUMBER}))?(?:x(\d+))?", re.IGNORECASE)
_HISTOGRAMS = re.compile(r"\{\{.*\}\}(?:x(\d+))?")
_WORD = re.compile(r"(?:\{\{.*?\}\}[^\s{]*)+|\S+")
_SERIES = re.compile(rf"\s*([a-zA-Z_:][\w:.]*)?\s*(?:\{{((?:[^\"'`{{}}]|{_STRING})*)\}})?(@st)?(?=\s|$)\s*(.*)$")
_LABEL = re.compile(rf"\s*({_STRING}|[\w.:]+)\s*(?:=\s*({_STRING}))?\s*(?:,|$)")
_COMMAND = re.compile(r"(?:clear|load\w*|eval\w*)(?:\s|$)", re.IGNORECASE)
_EVAL = re.compile(
    r"eval(?:_(fail|ordered|warn|info))?\s+(?:instant\s+(?:at\s+(?P<at>\S+)\s+)?"
    r"|range\s+from\s+(?P<from>\S+)\s+to\s+(?P<to>\S+)\s+step\s+(?P<step>\S+)\s+)(?P<expr>.+)$"
)
_EXPECT_RANGE = re.compile(r"expect range vector\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)$")
_EXPECT = re.compile(r"expect\s+(fail|ordered|warn|no_warn|info|no_info)(?:\s+((?:msg|regex):.+))?$")
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
    """A series with its points; the n-th stands at the n-th step. Some have start times of counters, too."""

    labels: Labels
    points: list[Point]
    has_start_times: bool = False


@dataclass(frozen=True)
class Load:
    """Adds series; with `custom_buckets` also the histogram form of classic ones."""

    step_ms: int
    series: list[Series]
    custom_buckets: bool


@dataclass(frozen=True)
class Clear:
    """Forgets what was loaded."""


@dataclass(frozen=True)
class Unreadable:
    """A command that is not understood, and why."""

    line: int
    text: str
    reason: str


@dataclass
class Eval:
    """An expression at one time (`step_ms` 0) or several, and what must come of it.

    `failure`, `notes` hold what a message must be: `msg:TEXT`, `regex:PATTERN`, or "" for any. `range_ms` is start, end
    and step of the samples of an expected range vector.
    """

    line: int
    expression: str
    start_ms: int
    end_ms: int
    step_ms: int
    fails: bool = False
    failure: str = ""
    ordered: bool = False
    text: str | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    scalar: float | None = None
    series: list[Series] = field(default_factory=list)
    range_ms: tuple[int, int, int] | None = None

    @property
    def times(self) -> range:
        """When it is evaluated."""
        return range(self.start_ms, self.end_ms + 1, self.step_ms or 1)

    @property
    def expected_times(self) -> range:
        """When the expected points stand."""
        start, end, step = self.range_ms or (self.start_ms, self.end_ms, self.step_ms)
        return range(start, end + 1, step or 1)


Command = Load | Clear | Eval | Unreadable


def read(text: str) -> list[Command]:
    """The commands of a script."""
    return [_command(number, head, body) for number, head, body in _blocks(text)]


def _command(number: int, head: str, body: list[str]) -> Command:
    try:
        if head.lower().startswith("clear"):
            return Clear()
        if head.lower().startswith("load"):
            return _load(head, body)
        return _eval(number, head, body)
    except ValueError as error:
        return Unreadable(number, head, str(error))


def _blocks(text: str) -> Iterator[tuple[int, str, list[str]]]:
    block: tuple[int, str, list[str]] | None = None
    apart = True
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            apart = True
            continue
        starts = _COMMAND.match(line) and (apart or raw[0] not in " \t")
        apart = False
        if starts or block is None:
            if block:
                yield block
            block = (number, line, [])
        else:
            block[2].append(line)
    if block:
        yield block


def _load(head: str, body: list[str]) -> Load:
    match = re.fullmatch(r"load(_with_nhcb)?\s+(\S+)", head)
    if match is None:
        raise ValueError("not a load command")
    series: list[Series] = []
    started: Labels | None = None
    for line in body:
        own = parse_series(line)
        if own.has_start_times:
            started = own.labels  # of the next line, or of all if it names none
        else:
            series.append(Series(own.labels, own.points, has_start_times=started in (own.labels, {})))
    return Load(duration_ms(match[2]), series, match[1] is not None)


def _eval(number: int, line: str, body: list[str]) -> Eval:
    match = _EVAL.match(line)
    if match is None:
        raise ValueError("not an eval command")
    start, end, step = match["at"] or match["from"] or "0", match["at"] or match["to"] or "0", match["step"] or "0"
    result = Eval(number, match["expr"], duration_ms(start), duration_ms(end), duration_ms(step))
    result.fails, result.ordered = match[1] == "fail", match[1] == "ordered"
    if match[1] in ("warn", "info"):
        result.notes.append((match[1], ""))
    for part in body:
        if part.split()[0] in ("expect", "expected_fail_message", "expected_fail_regexp"):
            _expect(result, part)
        elif re.fullmatch(rf"{_NUMBER}|0x[0-9a-f]+", part, re.IGNORECASE):
            result.scalar = to_float(part)
        else:
            result.series.append(parse_series(part))
    return result


def _expect(result: Eval, part: str) -> None:
    word, _, detail = part.partition(" ")
    if word != "expect":
        kind = "msg" if word.endswith("message") else "regex"
        result.fails, result.failure = True, f"{kind}:{detail.strip()}"
        return
    if match := _EXPECT_RANGE.match(part):
        result.range_ms = (duration_ms(match[1]), duration_ms(match[2]), duration_ms(match[3]))
        return
    if detail.startswith("string "):
        result.text = unquote(detail.removeprefix("string ").strip())
        return
    match = _EXPECT.match(part)
    if match is None:
        raise ValueError(f"expectation not understood: {part}")
    kind, wanted = match[1], match[2] or ""
    if kind == "fail":
        result.fails, result.failure = True, wanted
    elif kind == "ordered":
        result.ordered = True
    elif kind in ("warn", "info"):
        result.notes.append((kind, wanted))
    else:
        result.silent.add(kind.removeprefix("no_"))


def parse_series(text: str) -> Series:
    """`name{labels} points`."""
    match = _SERIES.match(text)
    if match is None or not (match[1] or match[2] is not None or match[3]):
        raise ValueError(f"not a series: {text}")
    labels = {"__name__": match[1]} if match[1] else {}
    inside = (match[2] or "").strip()
    if "".join(found[0] for found in _LABEL.finditer(inside)) != inside:
        raise ValueError(f"not labels: {match[2]}")
    for name, value in _LABEL.findall(inside):
        name = unquote(name) if name[0] in "\"'`" else name
        labels.update({name: unquote(value)} if value else {"__name__": name})
    labels = {n: v for n, v in labels.items() if v}
    if match[3]:
        return Series(labels, [], has_start_times=True)
    return Series(labels, [point for word in _WORD.findall(match[4]) for point in expand(word)])


def expand(word: str) -> list[Point]:
    """The points that one word of the notation stands for. ValueError if it is none."""
    if word.startswith("{{"):
        histograms = _HISTOGRAMS.fullmatch(word)
        if histograms is None:
            raise ValueError(f"not a histogram: {word}")
        return [HISTOGRAM] * (int(histograms[1] or 0) + 1)
    match = _POINTS.fullmatch(word)
    if match is None:
        raise ValueError(f"not a point: {word}")
    start, sign, change, times = match.groups()
    count = int(times) if times else 0
    if start == "_":
        return [None] * max(1, count)
    if start == "stale":
        return [STALE] * (count + 1)
    value = to_float(start)
    delta = to_float(change) * (-1 if sign == "-" else 1) if change else 0.0
    result: list[Point] = [value]
    for _ in range(count):
        value += delta
        result.append(value)
    return result


def to_float(text: str) -> float:
    """A number as Go writes it."""
    return float(int(text, 16)) if text.lower().startswith("0x") else float(text)


def unquote(text: str) -> str:
    """The content of a string literal, read by the parser itself."""
    if text[0] == "`":
        return text[1:-1]
    literal = promql_parser.parse(text)
    if not isinstance(literal, promql_parser.StringLiteral):
        raise ValueError(f"not a string: {text}")
    return str(literal.val)


def duration_ms(text: str) -> int:
    """A duration (`5m30s`), or a number of seconds."""
    sign = -1 if text.startswith("-") else 1
    text = text.removeprefix("-")
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return sign * round(float(text) * 1000)
    return sign * sum(int(number) * _UNIT_MS[unit] for number, unit in parts)
