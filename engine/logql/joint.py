"""Many pipelines over the same lines, so that a line costs little more for a thousand rules than for one.

Per batch of lines of one stream:

1. One pass finds which lines hold the texts that the pipelines' first line filters require (`literals`); a pipeline
   is tried on the lines that hold its own, and on all if nothing is certain of it.
2. A parser that follows the line filters runs once per line for all pipelines that begin with it, and looks for the
   labels that any of them asks for.
3. Each pipeline does the rest alone. So it does everything for a line that is not read without a fault: what a
   pipeline makes of such a line depends on what it asks for.

What comes out for a pipeline does not depend on which others there are: that is tested, line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import ahocorasick

from engine.core.expression import LineMatcher, MatchedLines
from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql.line import Line, Stage
from engine.logql.literals import requirement
from engine.logql.parsers import compile_parser
from engine.logql.pipeline import Extracted, Pipeline

_FEW_TEXTS = 12  # so many are looked for one by one; more, all at once with an automaton (measured)
_FEW_ROWS = 4  # so few are not worth sorting by a label's value
_FAULTY = "\0faulty"  # no value of a label: the lines that could not be parsed
Rows = Sequence[int]


def join(pipelines: Sequence[object]) -> LineMatcher:
    """One matcher for many pipelines (an `engine.core.expression.Selector.join`)."""
    own = [pipeline for pipeline in pipelines if isinstance(pipeline, Pipeline)]
    if len(own) != len(pipelines):
        raise TypeError("only LogQL pipelines can be joined here")
    return JointMatcher(own)


class JointMatcher:
    """An `engine.core.expression.LineMatcher` of LogQL pipelines; made once per set of them."""

    def __init__(self, pipelines: Sequence[Pipeline]) -> None:
        required = [requirement(pipeline.filters) for pipeline in pipelines]
        self._candidates = _find_texts([one.texts if one else None for one in required])
        self._tries: list[_Try] = []
        shared = _shared_parsers(pipelines)
        for pipeline, one in zip(pipelines, required, strict=True):
            done = one.filter if one and one.whole else None
            tests = [test for number, test in enumerate(pipeline.tests) if number != done]
            kind = pipeline.parser.kind if pipeline.parser else None
            self._tries.append(_Try(pipeline, tests, kind if kind in shared else None))
        self._parsers = shared

    def __call__(self, stream: Labels, entries: Sequence[LogEntry]) -> list[tuple[int, MatchedLines]]:
        """For each pipeline (by number) that some of the lines pass: which, and what they count for."""
        texts = [entry.line for entry in entries]
        parsed = {kind: _ParsedLines(parse, stream, entries) for kind, parse in self._parsers.items()}
        found = []
        for number, rows in self._candidates(texts):
            own = self._tries[number]
            for test in own.tests:
                rows = [row for row in rows if test(texts[row])]
            if rows:
                lines = parsed[own.kind] if own.kind else None
                matched = own.run(rows, stream, entries, lines)
                if matched.rows:
                    found.append((number, MatchedLines(*matched)))
        return found


class _Found(NamedTuple):
    """The columns of `MatchedLines`, while they grow."""

    rows: list[int]
    series: list[bytes]
    values: list[float]


class _Try:
    """A pipeline, the line filters that are still to be tried on it, and the shared parser it begins with, if any."""

    def __init__(self, pipeline: Pipeline, tests: Sequence[Callable[[str], bool]], kind: str | None) -> None:
        self.tests = tests
        self.kind = kind
        self._alone = pipeline.after_filters
        self._finish = pipeline.finish
        self._looks = pipeline.stages[1 : 1 + pipeline.reading]
        self._changes = pipeline.stages[1 + pipeline.reading :]
        self._equal = pipeline.equal_labels

    def run(self, rows: Rows, stream: Labels, entries: Sequence[LogEntry], parsed: _ParsedLines | None) -> _Found:
        """What the lines in these rows count for."""
        found = _Found([], [], [])
        alone = self._alone
        if parsed is None:
            kept, series, values = found
            for row in rows:
                extracted = alone(stream, entries[row])
                if extracted is not None:
                    kept.append(row)
                    series.append(extracted[0])
                    values.append(extracted[1])
            return found
        for name, value in self._equal[:1]:
            rows = parsed.having(name, value, rows)
        looks = self._looks
        for row in rows:
            line = parsed.line(row)
            try:
                if line is None:
                    _note(found, row, alone(stream, entries[row]))
                    continue
                for look in looks:
                    if not look(line):
                        break
                else:
                    _note(found, row, self._after_looks(line))
            except _Faulty:
                _note(found, row, alone(stream, entries[row]))
        return found

    def _after_looks(self, line: Line) -> Extracted | None:
        if self._changes:
            line = line.copy()
            for change in self._changes:
                if not change(line):
                    return None
        return self._finish(line)


def _note(found: _Found, row: int, extracted: Extracted | None) -> None:
    if extracted is not None:
        found.rows.append(row)
        found.series.append(extracted[0])
        found.values.append(extracted[1])


class _Faulty(Exception):  # noqa: N818  # no error: the line takes another way
    """A stage could not do its work on a line that pipelines share."""


class _SharedLine(Line):
    """A parsed line that several pipelines look at; none may mark it."""

    def fail(self, kind: str, details: str) -> None:
        raise _Faulty


class _ParsedLines:
    """The lines of a batch as a shared parser leaves them, each parsed when first asked for."""

    def __init__(self, parse: Stage, stream: Labels, entries: Sequence[LogEntry]) -> None:
        self._parse = parse
        self._stream = stream
        self._entries = entries
        self._lines: dict[int, Line | None] = {}
        self._by_value: dict[tuple[int, str], tuple[Rows, dict[str, list[int]]]] = {}

    def line(self, row: int) -> Line | None:
        """The parsed line; None for one that could not be parsed without a fault."""
        if row in self._lines:
            return self._lines[row]
        entry = self._entries[row]
        line = _SharedLine(entry.line, self._stream, entry.metadata, entry.t_ns)
        try:
            self._parse(line)
        except _Faulty:
            self._lines[row] = None
            return None
        self._lines[row] = line
        return line

    def having(self, name: str, value: str, rows: Rows) -> Rows:
        """Those of some rows whose label has a value, and those that could not be parsed.

        Rules that stand behind the same text are given the same rows: these are sorted by value once for all of them.
        """
        if len(rows) < _FEW_ROWS:
            return rows
        known = self._by_value.get((id(rows), name))
        if known is None:
            by_value: dict[str, list[int]] = {}
            for row in rows:
                line = self.line(row)
                by_value.setdefault(_FAULTY if line is None else line.labels.get(name, ""), []).append(row)
            known = self._by_value[id(rows), name] = (rows, by_value)  # with the rows, so that their id stays theirs
        found = known[1].get(value, [])
        return sorted(found + known[1][_FAULTY]) if _FAULTY in known[1] else found


def _shared_parsers(pipelines: Sequence[Pipeline]) -> dict[str, Stage]:
    """A parser for each kind that several pipelines begin with, looking for all that any of them asks for."""
    asking: dict[str, list[Pipeline]] = {}
    for pipeline in pipelines:
        if pipeline.parser is not None:
            asking.setdefault(pipeline.parser.kind, []).append(pipeline)
    shared = {}
    for kind, own in asking.items():
        if len(own) > 1 and own[0].parser is not None:
            names = [pipeline.wanted for pipeline in own]
            wanted = None if None in names else set().union(*(some for some in names if some is not None))
            shared[kind] = compile_parser(own[0].parser, wanted)
    return shared


Candidates = Callable[[Sequence[str]], Iterable[tuple[int, Rows]]]


def _find_texts(required: Sequence[tuple[str, ...] | None]) -> Candidates:
    """What tells for each number which lines hold one of its texts (all lines, where there are none)."""
    by_texts: dict[tuple[str, ...] | None, list[int]] = {}
    for number, texts in enumerate(required):
        by_texts.setdefault(texts, []).append(number)
    always = by_texts.pop(None, [])
    alone = {texts[0]: numbers for texts, numbers in by_texts.items() if texts and len(texts) == 1}
    several = [(texts, numbers) for texts, numbers in by_texts.items() if texts and len(texts) > 1]
    distinct = list(dict.fromkeys(text for texts in by_texts for text in texts or ()))
    holding = _one_by_one(distinct) if len(distinct) <= _FEW_TEXTS else _all_at_once(distinct)

    def candidates(lines: Sequence[str]) -> Iterable[tuple[int, Rows]]:
        every = range(len(lines))
        for number in always:
            yield number, every
        rows_of = holding(lines)
        for text, rows in rows_of.items():
            for number in alone.get(text, ()):
                yield number, rows
        for texts, numbers in several:
            parts = [rows_of[text] for text in texts if text in rows_of]
            if parts:
                rows = parts[0] if len(parts) == 1 else sorted(set().union(*parts))
                for number in numbers:
                    yield number, rows

    return candidates


Holding = Callable[[Sequence[str]], dict[str, list[int]]]


def _one_by_one(texts: Sequence[str]) -> Holding:
    def holding(lines: Sequence[str]) -> dict[str, list[int]]:
        found = {text: [row for row, line in enumerate(lines) if text in line] for text in texts}
        return {text: rows for text, rows in found.items() if rows}

    return holding


def _all_at_once(texts: Sequence[str]) -> Holding:
    automaton = ahocorasick.Automaton()
    for text in texts:
        automaton.add_word(text, text)
    automaton.make_automaton()
    occurrences = automaton.iter

    def holding(lines: Sequence[str]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row, line in enumerate(lines):
            for _, text in occurrences(line):
                rows = found.get(text)
                if rows is None:
                    found[text] = [row]
                elif rows[-1] != row:
                    rows.append(row)
        return found

    return holding
