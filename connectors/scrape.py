"""Pages in the Prometheus text format or in OpenMetrics: what a scrape of `/metrics` returns.

`Page` parses the pages of one target and remembers which label set the start of each line stands for, since only the
values change from scrape to scrape. `report` makes of a scrape what Prometheus would store: the samples, `up` and its
companions, and a staleness marker for every series that is gone; `ending` what it stores when a target is given up.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from connectors import Connector, Decoded, DecodeError
from connectors._relabel import Step, relabel
from connectors._wire import gunzip, media_type
from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.labels import Labels
from engine.core.sources import SourceTiming
from engine.core.window import STALE

ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
_CACHE_LINES = 200_000
_MAX_T_MS = 2**62
_START = re.compile(r'[^\s{]*(?:\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})?')
_METADATA = re.compile(r"# (?:(?:HELP|UNIT) \S+(?: .*)?|TYPE \S+ (\S+))")
_TYPES = frozenset(["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"])
_OWN_SERIES = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
_UNSEEN = object()

Line = tuple[int, str, float, int | None]
"""Number of a line, its start (name and labels), its value, and its own time in ms if it has one."""


@dataclass(frozen=True)
class PageOptions:
    """How pages are read, by the names that Prometheus's scrape configuration has for it. `sample_limit` 0: none."""

    honor_labels: bool = False
    honor_timestamps: bool = True
    sample_limit: int = 0
    metric_relabel: Sequence[Step] = ()


@dataclass(frozen=True)
class Exposition:
    """The samples of one page, and the series among them that carry no time of their own.

    Only the latter get a staleness marker when they disappear, as in Prometheus. `scraped` is how many samples the page
    had before relabelling.
    """

    samples: Samples
    tracked: frozenset[bytes]
    scraped: int


class Page:
    """Parses the pages of one target and adds the target's labels.

    A label of the page that clashes with one of the target's is renamed with `exported_` before it, or wins where
    `honor_labels` is set.
    """

    def __init__(self, target_labels: Mapping[str, str], options: PageOptions | None = None) -> None:
        self._target_labels = dict(target_labels)
        self._options = options or PageOptions()
        self._known: dict[str, bytes | None] = {}  # None: dropped by relabelling

    def parse(self, body: bytes, content_type: str, at_ms: int) -> Exposition:
        """The samples of a page, at `at_ms` unless they say otherwise; raises `DecodeError`."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise DecodeError("bad_utf8", f"the page is not UTF-8: {error}") from error
        name, _ = media_type({"Content-Type": content_type})
        lines = _openmetrics(text) if name == "application/openmetrics-text" else _text(text)
        scraped, found = 0, []
        get, honor_timestamps = self._known.get, self._options.honor_timestamps
        for number, start, value, own_ms in lines:
            scraped += 1
            labels = get(start, _UNSEEN)
            if labels is _UNSEEN:
                labels = self._learn(number, start)
            if labels is not None:
                found.append((labels, value, own_ms if honor_timestamps else None))
        limit = self._options.sample_limit
        if limit and len(found) > limit:
            raise DecodeError("sample_limit", f"the page has {len(found)} samples, sample_limit is {limit}")
        return _exposition(found, at_ms, scraped)  # type: ignore[arg-type]  # what is in the cache is bytes or None

    def _learn(self, number: int, start: str) -> bytes | None:
        """Let the library read a line up to its value."""
        try:
            samples = [sample for family in text_string_to_metric_families(f"{start} 0\n") for sample in family.samples]
        except Exception as error:  # the library raises whatever its parsing runs into
            raise _bad_line(number, start, f"not a name with labels: {error}") from error
        if len(samples) != 1:
            raise _bad_line(number, start, "not a name with labels")
        if len(self._known) >= _CACHE_LINES:
            self._known.clear()
        found = relabel(self._labels(samples[0].name, samples[0].labels), self._options.metric_relabel)
        labels = self._known[start] = None if found is None else label_sets.encode(found)
        return labels

    def _labels(self, name: str, labels: Mapping[str, str]) -> Labels:
        if self._options.honor_labels:  # also an empty one, which says that the label is not wanted
            return {**self._target_labels, **labels, "__name__": name}
        out = {"__name__": name, **self._target_labels}
        for label, value in labels.items():
            if value == "":
                continue
            while label in out:
                label = f"exported_{label}"
            out[label] = value
        return out


@dataclass(frozen=True)
class Seen:
    """What the last scrapes of a target showed: series to watch for, and all series of the last page that was read."""

    tracked: frozenset[bytes] = frozenset()
    series: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Report:
    """What a scrape adds to the stream, and what the next one is compared with."""

    samples: Samples
    seen: Seen


def report(labels: Mapping[str, str], page: Exposition | None, seen: Seen, at_ms: int, duration_s: float) -> Report:
    """The samples of a scrape at `at_ms` of the target with these labels; `page` is None if it failed."""
    series = frozenset(page.samples.series) if page else seen.series
    tracked = page.tracked if page else frozenset[bytes]()
    kept = len(page.samples) if page else 0
    own = [1.0 if page else 0.0, duration_s, page.scraped if page else 0, kept, len(series - seen.series)]
    gone = sorted(seen.tracked - tracked)
    names = [*_own(labels), *gone]
    values = np.asarray([*own, *[STALE] * len(gone)], np.float64)
    added = Samples(names, np.full(len(names), at_ms, np.int64), values)
    return Report(Samples.concat([page.samples, added]) if page else added, Seen(tracked, series))


def ending(labels: Mapping[str, str], seen: Seen, at_ms: int) -> Samples:
    """The staleness markers of a target that is not scraped any more, also for `up` and its companions."""
    names = [*sorted(seen.tracked), *_own(labels)]
    return Samples(names, np.full(len(names), at_ms, np.int64), np.full(len(names), STALE))


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The samples of a page of no particular target."""
    if headers.get("Content-Encoding", "").lower() == "gzip":
        body = gunzip(body)
    if not body:
        raise DecodeError("empty_body", "the page is empty")
    return Decoded(Page({}).parse(body, headers.get("Content-Type", ""), received_ms).samples)


def _own(labels: Mapping[str, str]) -> list[bytes]:
    return [label_sets.encode({**labels, "__name__": name}) for name in _OWN_SERIES]


def _exposition(found: Sequence[tuple[bytes, float, int | None]], at_ms: int, scraped: int) -> Exposition:
    series = [labels for labels, _, _ in found]
    t_ms = np.asarray([at_ms if own is None else own for _, _, own in found], np.int64)
    values = np.asarray([value for _, value, _ in found], np.float64)
    tracked = frozenset(bytes(labels) for labels, _, own in found if own is None)
    return Exposition(Samples(series, t_ms, values), tracked, scraped)


def _text(text: str) -> Iterator[Line]:
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if line and line[0] != "#":
            end = line.rfind("}") + 1 or len(line.split(None, 1)[0])
            yield _sample(number, line, end, line[end:].split())


def _openmetrics(text: str) -> Iterator[Line]:
    """OpenMetrics: nothing after `# EOF`, no blank lines, times in seconds, exemplars (which are passed over)."""
    lines = text.removesuffix("\n").split("\n")
    if lines[-1] != "# EOF":
        raise DecodeError("bad_page", "the page does not end with # EOF, as OpenMetrics wants it: it may be cut")
    for number, line in enumerate(lines[:-1], start=1):
        if line.startswith("#"):
            _check_metadata(number, line)
            continue
        end = line.rfind("}") + 1 or len(line.split(None, 1)[0] if line.strip() else "")
        if "# " in line and (start := _START.match(line)):
            end = start.end()
        own, hash_, exemplar = line[end:].partition(" # ")
        if hash_ and not exemplar.startswith("{"):
            raise _bad_line(number, line, "an exemplar begins with a brace")
        yield _sample(number, line, end, own.split(), in_seconds=True)


def _check_metadata(number: int, line: str) -> None:
    found = _METADATA.fullmatch(line)
    if found is None or (found[1] is not None and found[1] not in _TYPES):
        raise _bad_line(number, line, "expected # TYPE, # UNIT or # HELP as OpenMetrics has them")


def _sample(number: int, line: str, end: int, rest: Sequence[str], *, in_seconds: bool = False) -> Line:
    try:
        return number, line[:end], _number(rest[0]), _own_time(rest, in_seconds=in_seconds)
    except (ValueError, IndexError, OverflowError) as error:
        raise _bad_line(number, line, str(error)) from error


def _bad_line(number: int, line: str, what: str) -> DecodeError:
    return DecodeError("bad_line", f"line {number} of the page, {line[:200]!r}: {what}")


def _number(text: str) -> float:
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _own_time(rest: Sequence[str], *, in_seconds: bool) -> int | None:
    if len(rest) == 1:
        return None
    if len(rest) > 2:
        raise ValueError("something stands after the time")
    t_ms = round(_number(rest[1]) * 1_000) if in_seconds else int(rest[1])
    if not -_MAX_T_MS < t_ms < _MAX_T_MS:
        raise ValueError(f"time {t_ms} is out of range")
    return t_ms


CONNECTOR = Connector(
    name="scrape",
    kind="metrics",
    decode=decode,
    timing=SourceTiming(lateness_ms=0, idle_after_ms=45_000),
    content_types=("text/plain", "application/openmetrics-text"),
)
