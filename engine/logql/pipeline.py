"""From the stages of a log query to the one function that runs for every line on arrival.

`compile_pipeline` gives `extract(stream labels, entry)`, which answers with the series a line counts for and its
value, or None. Line filters that stand first run before anything is built, parsers decode only the labels that somebody
asks for (`needed_labels`), and the bytes of a group's label set are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import re2

from engine.core.labels import Labels
from engine.core.messages import LogEntry
from engine.logql import conditions, linefilters, units
from engine.logql import tree as t
from engine.logql.line import DETAILS, ERROR, Line, Stage
from engine.logql.parsers import compile_parser

Extract = Callable[[Labels, LogEntry], tuple[bytes, float] | None]

_CACHE_LIMIT = 200_000
_COLOR = re2.compile(
    "[\x1b\x9b][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z\\d]*(?:;[a-zA-Z\\d]*)*)?\x07)"
    "|(?:(?:\\d{1,4}(?:;\\d{0,4})*)?[\\dA-PRZcf-ntqry=><~]))"
)
_encode = msgspec.json.Encoder(order="deterministic").encode
_CONVERSIONS: Mapping[str, Callable[[str], float]] = {
    "": units.number,
    "duration": units.duration_s,
    "duration_seconds": units.duration_s,
    "bytes": units.size_bytes,
}


def encode_series(labels: Mapping[str, str]) -> bytes:
    """Canonical bytes of a series. Unlike `labels.encode` it keeps empty values, which LogQL counts as present."""
    return _encode(labels)


decode_series = msgspec.json.Decoder(dict[str, str]).decode


def compile_pipeline(stages: Sequence[t.Stage], *, counts_bytes: bool, grouping: t.Grouping | None) -> Extract:
    """The function for one line. `grouping` says which labels its series has (None: all). Raises `ExpressionError`."""
    wanted = needed_labels(stages, grouping)
    split = next((i for i, stage in enumerate(stages) if not isinstance(stage, t.LineFilter)), len(stages))
    first = [linefilters.compile_filter(stage) for stage in stages[:split] if isinstance(stage, t.LineFilter)]
    rest = [_compile_stage(stage, wanted) for stage in stages[split:]]
    unwrap = next((stage for stage in stages if isinstance(stage, t.Unwrap)), None)
    series = _series(grouping, unwrap)

    def extract(stream: Labels, entry: LogEntry) -> tuple[bytes, float] | None:
        text = entry.line
        for test in first:
            if not test(text):
                return None
        line = Line(text, stream, entry.metadata)
        for stage in rest:
            if not stage(line):
                return None
        if line.error:
            return encode_series(line.labels), line.value
        if counts_bytes:
            return series(line.labels), float(len(line.text if line.text.isascii() else line.text.encode()))
        return series(line.labels), line.value

    return extract


def needed_labels(stages: Iterable[t.Stage], grouping: t.Grouping | None) -> set[str] | None:
    """The labels that can matter for the result; None if all can."""
    if grouping is None or not grouping.by:
        return None
    needed = set(grouping.labels)
    for stage in stages:
        if isinstance(stage, t.LabelFilter):
            needed |= conditions.names_in(stage.condition)
        elif isinstance(stage, t.Unwrap):
            needed.add(stage.label)
        elif isinstance(stage, t.Selection):
            needed |= {name for name, _ in stage.picks}
        elif isinstance(stage, t.LineFormat | t.LabelFormat):
            return None
    return needed


def _compile_stage(node: t.Stage, wanted: set[str] | None) -> Stage:
    if isinstance(node, t.LineFilter):
        test = linefilters.compile_filter(node)
        return lambda line: test(line.text)
    if isinstance(node, t.Parser):
        return compile_parser(node, wanted)
    if isinstance(node, t.LabelFilter):
        return conditions.compile_condition(node.condition)
    if isinstance(node, t.Decolorize):
        return _decolorize
    if isinstance(node, t.Selection):
        return _selection(node)
    if isinstance(node, t.Unwrap):
        return _unwrap(node)
    if isinstance(node, t.LabelFormat):
        return _rename(node)
    raise node.place.refuse("line_format is not supported yet")


def _decolorize(line: Line) -> bool:
    if "\x1b" in line.text or "\x9b" in line.text:
        line.text = _COLOR.sub("", line.text)
    return True


def _selection(node: t.Selection) -> Stage:
    tests: dict[str, list[Callable[[str], bool]]] = {}
    for name, matcher in node.picks:
        test = _always if matcher is None else conditions.matcher_test(matcher, node.place)
        tests.setdefault(name, []).append(test)
    dropping = node.kind == "drop"

    def stage(line: Line) -> bool:
        for name in list(line.labels):
            picked = any(test(line.labels[name]) for test in tests.get(name, ()))
            if picked == dropping and (dropping or name not in (ERROR, DETAILS)):
                del line.labels[name]
                if name == ERROR:
                    line.error = ""
        return True

    return stage


def _rename(node: t.LabelFormat) -> Stage:
    targets = [target for target, _, _ in node.assignments]
    for target, source, is_template in node.assignments:
        if is_template:
            raise node.place.refuse(
                f"label_format with a template ({target}) is not supported yet; only {target}=label"
            )
        if target in (ERROR, DETAILS) or source in (ERROR, DETAILS):
            raise node.place.refuse(f"label_format cannot touch {ERROR}")
        if targets.count(target) > 1:
            raise node.place.refuse(f"multiple label name {target!r} not allowed in a single label_format")

    def stage(line: Line) -> bool:
        for target, source, _ in node.assignments:
            value = line.labels.pop(source, None)
            if value is not None:
                line.labels[target] = value
        return True

    return stage


def _always(_: str) -> bool:
    return True


def _unwrap(node: t.Unwrap) -> Stage:
    name, convert = node.label, _CONVERSIONS[node.conversion]

    def stage(line: Line) -> bool:
        text = line.labels.get(name)
        if text is None:
            return False
        try:
            line.value = convert(text)
        except ValueError as error:
            line.fail("SampleExtractionErr", str(error))
        return True

    return stage


def _series(grouping: t.Grouping | None, unwrap: t.Unwrap | None) -> Callable[[Labels], bytes]:
    if grouping is not None and grouping.by:
        return _by(grouping.labels)
    dropped = set(grouping.labels if grouping else ()) | ({unwrap.label} if unwrap else set())
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
