"""From the stages of a log query to what runs for every line on arrival.

A `Pipeline` answers for a line with the series it counts for and its value, or None. Line filters that stand first run
before anything is built, parsers decode only the labels that somebody asks for (`needed_labels`), and the bytes of a
group's label set are remembered. `engine.logql.joint` runs many pipelines over the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql import conditions, linefilters
from engine.logql import tree as t
from engine.logql.line import DETAILS, ERROR, Line, Stage
from engine.logql.parsers import compile_parser
from engine.logql.stages import decolorize, selection, unwrap
from engine.logql.templates import label_format, labels_read, line_format

PARSER_ERRORS = ("JSONParserErr", "LogfmtParserErr")
_CACHE_LIMIT = 200_000
_encode = msgspec.json.Encoder(order="deterministic").encode
Extracted = tuple[bytes, float]
"""The canonical bytes of the series that a line counts for, and its value."""


def encode_series(labels: Mapping[str, str]) -> bytes:
    """Canonical bytes of a series. Unlike `labels.encode` it keeps empty values, which LogQL counts as present."""
    return _encode(labels)


decode_series = msgspec.json.Decoder(dict[str, str]).decode


class Pipeline:
    """The compiled stages of a log query. `grouping` says which labels its series has (None: all).

    `filters` are the line filters that stand first, as written, and `tests` what they do. `stages` are the others, in
    order. A shareable parser (`parser`, with `wanted` as the labels it looks for; None: all) comes directly after the
    filters; `reading` counts the stages after it that only look at labels, and `equal_labels` are values that labels
    must have to pass them. Raises `ExpressionError`.
    """

    def __init__(self, stages: Sequence[t.Stage], *, counts_bytes: bool = False, grouping: t.Grouping | None = None):
        self.wanted = needed_labels(stages, grouping)
        split = next((i for i, stage in enumerate(stages) if not isinstance(stage, t.LineFilter)), len(stages))
        self.filters = tuple(stage for stage in stages[:split] if isinstance(stage, t.LineFilter))
        self.tests = tuple(map(linefilters.compile_filter, self.filters))
        rest = stages[split:]
        self.parser = _shareable(rest[0]) if rest and self.wanted != set() else None
        self.stages = _compile_stages(rest, self.wanted)
        after = rest[1:] if self.parser else ()
        self.reading = next((i for i, stage in enumerate(after) if not isinstance(stage, t.LabelFilter)), len(after))
        self.equal_labels = conditions.equal_labels(after[: self.reading])
        self._counts_bytes = counts_bytes
        self._keeps_errors = self.wanted is not None and ERROR in self.wanted
        self._series = _series(grouping, next((stage for stage in stages if isinstance(stage, t.Unwrap)), None))

    def __call__(self, stream: Labels, entry: LogEntry) -> Extracted | None:
        """Run one line of a stream: its series and value, or None if it is filtered out."""
        text = entry.line
        for test in self.tests:
            if not test(text):
                return None
        return self.after_filters(stream, entry)

    def after_filters(self, stream: Labels, entry: LogEntry) -> Extracted | None:
        """The same for a line that is known to pass the first line filters."""
        line = Line(entry.line, stream, entry.metadata, entry.t_ns)
        for stage in self.stages:
            if not stage(line):
                return None
        if line.error or self._counts_bytes:
            return self.finish(line)
        return self._series(line.labels), line.value

    def finish(self, line: Line) -> Extracted:
        """The series and value of a line that went through all stages.

        A line that failed has all its labels, so that it can be told of, unless the query asks for `__error__`. That
        it failed is told by its series having `__error_details__`.
        """
        if line.error and not (self._keeps_errors and line.error in PARSER_ERRORS):
            return encode_series({DETAILS: "", **line.labels}), line.value
        if self._counts_bytes:
            return self._series(line.labels), float(len(line.text if line.text.isascii() else line.text.encode()))
        return self._series(line.labels), line.value


def needed_labels(stages: Iterable[t.Stage], grouping: t.Grouping | None) -> set[str] | None:
    """The labels that can matter for the result; None if all can. If none does, no parser runs, as in Loki."""
    if grouping is None or not grouping.by:
        return None
    needed = set(grouping.labels)
    for stage in stages:
        if isinstance(stage, t.LabelFilter):
            needed |= conditions.names_in(stage.condition)
        elif isinstance(stage, t.Unwrap):
            needed.add(stage.label)
        elif isinstance(stage, t.LineFormat | t.LabelFormat):
            read = labels_read(stage)
            if read is None:
                return None
            needed |= read
    return needed


def _shareable(stage: t.Stage) -> t.Parser | None:
    """The stage itself, if it is a parser that finds the same labels whoever asks for them."""
    if not isinstance(stage, t.Parser) or stage.kind not in ("json", "logfmt") or stage.extractions or stage.flags:
        return None
    return stage


def _compile_stages(nodes: Sequence[t.Stage], wanted: set[str] | None) -> list[Stage]:
    stages: list[Stage] = []
    parsed = False
    for node in nodes:
        if not isinstance(node, t.Parser):
            stages.append(compile_stage(node))
        else:
            stage = compile_parser(node, wanted)
            if wanted != set():
                stages.append(_unless_complete(stage, wanted) if parsed and wanted else stage)
            parsed = True
    return stages


def _unless_complete(parse: Stage, wanted: set[str]) -> Stage:
    """A further parser, which has nothing to do once earlier ones found everything that is asked for."""
    return lambda line: line.has_parsed(wanted) or parse(line)


def compile_stage(node: t.Stage) -> Stage:
    """The stage of a node; a parser looks for all labels. Raises `ExpressionError`."""
    if isinstance(node, t.LineFilter):
        test = linefilters.compile_filter(node)
        return lambda line: test(line.text)
    if isinstance(node, t.Parser):
        return compile_parser(node, None)
    if isinstance(node, t.LabelFilter):
        return conditions.compile_condition(node.condition)
    if isinstance(node, t.Decolorize):
        return decolorize
    if isinstance(node, t.Selection):
        return selection(node)
    if isinstance(node, t.Unwrap):
        return unwrap(node)
    return line_format(node) if isinstance(node, t.LineFormat) else label_format(node)


def _series(grouping: t.Grouping | None, unwrapped: t.Unwrap | None) -> Callable[[Labels], bytes]:
    if grouping is not None and grouping.by:
        return _by(grouping.labels)
    dropped = set(grouping.labels if grouping else ()) | ({unwrapped.label} if unwrapped else set())
    if not dropped:
        return encode_series
    return lambda labels: encode_series({name: value for name, value in labels.items() if name not in dropped})


def _by(names: Sequence[str]) -> Callable[[Labels], bytes]:
    known: dict[object, bytes] = {}
    if len(names) == 1:
        name = names[0]

        def by_one(labels: Labels) -> bytes:
            value = labels.get(name)
            found = known.get(value)
            if found is None:
                if len(known) >= _CACHE_LIMIT:
                    known.clear()
                found = known[value] = encode_series({} if value is None else {name: value})
            return found

        return by_one

    def by_several(labels: Labels) -> bytes:
        values = tuple(map(labels.get, names))
        found = known.get(values)
        if found is None:
            if len(known) >= _CACHE_LIMIT:
                known.clear()
            pairs = zip(names, values, strict=True)
            found = known[values] = encode_series({name: value for name, value in pairs if value is not None})
        return found

    return by_several
