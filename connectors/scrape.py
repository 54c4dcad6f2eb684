"""Pages in the Prometheus text format or in OpenMetrics: what a scrape of `/metrics` returns.

`Page` parses the pages of one target and remembers which label set the start of each line stands for, since only the
values change from scrape to scrape; prometheus-client's parsers read what is new. `report` makes of a scrape what
Prometheus would store: the samples, `up` and its two companions, and a staleness marker for every series that is gone.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from connectors import Connector, Decoded, DecodeError
from connectors._wire import gunzip, media_type
from engine.core import labels as label_sets
from engine.core.batching import Samples
from engine.core.sources import SourceTiming
from engine.core.window import STALE

ACCEPT = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5"
_CACHE_LINES = 200_000
_MAX_T_MS = 2**62


@dataclass(frozen=True)
class Exposition:
    """The samples of one page, and the series among them that carry no time of their own.

    Only the latter get a staleness marker when they disappear, as in Prometheus.
    """

    samples: Samples
    tracked: frozenset[bytes]


class Page:
    """Parses the pages of one target and adds the target's labels.

    A label of the page that clashes with one of the target's is renamed with `exported_` before it (Prometheus's
    `honor_labels: false`).
    """

    def __init__(self, target_labels: Mapping[str, str]) -> None:
        self._target_labels = dict(target_labels)
        self._known: dict[str, bytes] = {}

    def parse(self, body: bytes, content_type: str, at_ms: int) -> Exposition:
        """The samples of a page, at `at_ms` unless they say otherwise; raises `DecodeError`."""
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise DecodeError("bad_utf8", f"the page is not UTF-8: {error}") from error
        name, _ = media_type({"Content-Type": content_type})
        if name == "application/openmetrics-text":
            return _exposition(self._openmetrics(text), at_ms)
        return _exposition(self._text(text), at_ms)

    def _text(self, text: str) -> list[tuple[bytes, float, int | None]]:
        found: list[tuple[bytes, float, int | None]] = []
        known = self._known.get
        for number, line in enumerate(text.split("\n"), start=1):
            line = line.strip()
            if not line or line[0] == "#":
                continue
            end = line.rfind("}") + 1 or len(line.split(None, 1)[0])
            start = line[:end]
            rest = line[end:].split()
            try:
                labels = known(start) or self._learn(start)
                found.append((labels, _number(rest[0]), _own_time(rest)))
            except (ValueError, IndexError, OverflowError) as error:
                raise DecodeError("bad_line", f"line {number} of the page, {line[:200]!r}: {error}") from error
        return found

    def _learn(self, start: str) -> bytes:
        """Let the library read a line up to its value."""
        samples = [sample for family in text_families(f"{start} 0\n") for sample in family.samples]
        if len(samples) != 1:
            raise ValueError("not a sample")
        if len(self._known) >= _CACHE_LINES:
            self._known.clear()
        labels = self._known[start] = self._labels(samples[0].name, samples[0].labels)
        return labels

    def _openmetrics(self, text: str) -> list[tuple[bytes, float, int | None]]:
        found: list[tuple[bytes, float, int | None]] = []
        try:
            for family in openmetrics_families(text):  # type: ignore[no-untyped-call]  # published without types
                for sample in family.samples:
                    own_ms = None if sample.timestamp is None else _in_range(float(sample.timestamp) * 1_000)
                    found.append((self._labels(sample.name, sample.labels), float(sample.value), own_ms))
        except Exception as error:  # the library raises whatever its parsing runs into
            raise DecodeError("bad_page", f"the page is not OpenMetrics: {error!r}") from error
        return found

    def _labels(self, name: str, labels: Mapping[str, str]) -> bytes:
        out = {"__name__": name, **self._target_labels}
        for label, value in labels.items():
            if value == "":
                continue
            while label in out:
                label = f"exported_{label}"
            out[label] = value
        return label_sets.encode(out)


@dataclass(frozen=True)
class Report:
    """What a scrape adds to the stream, and the series to watch for at the next one."""

    samples: Samples
    tracked: frozenset[bytes]


def report(
    target_labels: Mapping[str, str],
    page: Exposition | None,
    previous: Set[bytes],
    at_ms: int,
    duration_s: float,
) -> Report:
    """The samples of a scrape at `at_ms`; `page` is None if it failed, `previous` are the last one's tracked series."""
    scraped = len(page.samples) if page else 0
    own = {"up": 1.0 if page else 0.0, "scrape_duration_seconds": duration_s, "scrape_samples_scraped": float(scraped)}
    tracked = page.tracked if page else frozenset[bytes]()
    gone = sorted(previous - tracked)
    series = [label_sets.encode({**target_labels, "__name__": name}) for name in own] + gone
    values = np.asarray([*own.values(), *[STALE] * len(gone)], np.float64)
    added = Samples(series, np.full(len(series), at_ms, np.int64), values)
    return Report(Samples.concat([page.samples, added]) if page else added, tracked)


def decode(body: bytes, headers: Mapping[str, str], received_ms: int) -> Decoded:
    """The samples of a page of no particular target."""
    if headers.get("Content-Encoding", "").lower() == "gzip":
        body = gunzip(body)
    if not body:
        raise DecodeError("empty_body", "the page is empty")
    return Decoded(Page({}).parse(body, headers.get("Content-Type", ""), received_ms).samples)


def _exposition(found: list[tuple[bytes, float, int | None]], at_ms: int) -> Exposition:
    series = [labels for labels, _, _ in found]
    t_ms = np.asarray([at_ms if own is None else own for _, _, own in found], np.int64)
    values = np.asarray([value for _, value, _ in found], np.float64)
    tracked = frozenset(bytes(labels) for labels, _, own in found if own is None)
    return Exposition(Samples(series, t_ms, values), tracked)


def _number(text: str) -> float:
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)


def _own_time(rest: list[str]) -> int | None:
    if len(rest) == 1:
        return None
    if len(rest) > 2:
        raise ValueError("something stands after the time")
    return _in_range(int(rest[1]))


def _in_range(t_ms: float) -> int:
    if not -_MAX_T_MS < t_ms < _MAX_T_MS:
        raise ValueError(f"time {t_ms} is out of range")
    return int(t_ms)


CONNECTOR = Connector(
    name="scrape",
    kind="metrics",
    decode=decode,
    timing=SourceTiming(lateness_ms=0, idle_after_ms=45_000),
    content_types=("text/plain", "application/openmetrics-text"),
)
