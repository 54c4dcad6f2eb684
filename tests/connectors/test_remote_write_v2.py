"""Remote write 2.0: the columns give exactly what the protobuf parser gives, whatever the layout of a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import DecodeError, Taken
from connectors import remote_write as connector
from connectors._remote_write_v2 import MESSAGES
from engine.core import labels
from engine.core.batching import Samples
from engine.core.window import STALE, STALE_BITS

HEADERS = {
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "Content-Encoding": "snappy",
}
T_MS = 1_700_000_000_000
UP = {"__name__": "up", "job": "bridge"}


@dataclass
class Series:
    """What a sender says of one series."""

    labels: dict[str, str]
    points: Sequence[tuple[float, int]]
    metadata: bytes = b""
    created_ms: int = 0
    exemplars: int = 0
    histograms: int = 0
    refs: list[int] = field(default_factory=list)


def request(*series: Series, unused: Sequence[str] = ()) -> bytes:
    """The protobuf bytes; `unused` symbols come first, so that references get larger."""
    symbols = {text: number for number, text in enumerate(dict.fromkeys(["", *unused]))}
    for one in series:
        for pair in sorted(one.labels.items()):
            for text in pair:
                symbols.setdefault(text, len(symbols))
    sample, made = MESSAGES["Sample"], MESSAGES["TimeSeries"]
    message = MESSAGES["Request"](
        symbols=list(symbols),
        timeseries=[
            made(
                labels_refs=one.refs or [symbols[text] for pair in sorted(one.labels.items()) for text in pair],
                samples=[sample(value=value, timestamp=t_ms) for value, t_ms in one.points],
                histograms=[b"\x08\x01"] * one.histograms,
                exemplars=[b"\x10\x01"] * one.exemplars,
                metadata=one.metadata,
                created_timestamp=one.created_ms,
            )
            for one in series
        ],
    )
    return bytes(message.SerializeToString())


def samples_of(body: bytes) -> Samples:
    events = connector.decode(bytes(cramjam.snappy.compress_raw(body)), HEADERS, 0).events
    assert isinstance(events, Samples)
    return events


def rows(body: bytes) -> list[tuple[bytes, int, int]]:
    """Label bytes, time and value bits of every sample, in a fixed order."""
    samples = samples_of(body)
    bits = samples.values.view(np.uint64).tolist()
    return sorted(zip(map(bytes, samples.series), samples.t_ms.tolist(), bits, strict=True))


def expected(*series: Series) -> list[tuple[bytes, int, int]]:
    return sorted(
        (labels.encode(one.labels), t_ms, int(np.float64(value).view(np.uint64)))
        for one in series
        for value, t_ms in one.points
    )


META = b"\x08\x01\x18\x03"  # a type and a reference to a help text
SERIES = {
    "one sample": [Series(UP, [(1.0, T_MS)])],
    "metadata after it": [Series(UP, [(1.0, T_MS)], metadata=META)],
    "metadata and a created timestamp": [Series(UP, [(1.0, T_MS)], metadata=META, created_ms=T_MS - 9)],
    "a created timestamp alone": [Series(UP, [(1.0, T_MS)], created_ms=T_MS - 9)],
    "a created timestamp of one byte": [Series(UP, [(1.0, T_MS)], metadata=META, created_ms=5)],
    "metadata over 127 bytes": [Series(UP, [(1.0, T_MS)], metadata=b"\x12\x7f" + b"x" * 127)],
    "zero, which protobuf leaves out": [Series(UP, [(0.0, T_MS)], metadata=META)],
    "minus zero": [Series(UP, [(-0.0, T_MS)])],
    "several samples": [Series(UP, [(1.0, T_MS), (2.0, T_MS + 1)], metadata=META)],
    "samples out of order, and one twice": [Series(UP, [(2.0, T_MS + 1), (1.0, T_MS), (1.0, T_MS)])],
    "no sample": [Series(UP, [], metadata=META)],
    "time zero": [Series(UP, [(1.0, 0)])],
    "a time before 1970": [Series(UP, [(1.0, -5)])],
    "five and six bytes of time": [Series(UP, [(1.0, 2**35 - 1)]), Series(UP, [(1.0, 2**35)])],
    "six and seven bytes of time": [Series(UP, [(1.0, 2**42 - 1)]), Series(UP, [(1.0, 2**42)])],
    "infinities": [Series(UP, [(math.inf, T_MS)]), Series(UP, [(-math.inf, T_MS + 1)])],
    "labels that JSON escapes": [Series({"__name__": "x", "path": 'ü"\\\n'}, [(1.0, T_MS)])],
    "an empty value is no label": [Series({"__name__": "x", "empty": ""}, [(1.0, T_MS)])],
    "over 127 bytes of references": [
        Series({"__name__": "x"} | {f"label_{i}": str(i) for i in range(100)}, [(1.0, T_MS)])
    ],
    "an exemplar": [Series(UP, [(1.0, T_MS)], exemplars=1, metadata=META)],
    "a mixture": [
        Series(UP, [(1.0, T_MS)], metadata=META),
        Series({"__name__": "down"}, [(0.0, T_MS)]),
        Series({"__name__": "both", "job": "up"}, [(2.0, T_MS), (3.0, 7)], created_ms=T_MS),
    ],
}


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES)
def test_samples_arrive_as_they_were_sent_the_first_time_and_from_the_cache(series: list[Series]):
    connector.forget()
    body = request(*series)
    assert rows(body) == rows(body) == expected(*series)


def test_references_say_nothing_across_requests():
    one, other = Series(UP, [(1.0, T_MS)]), Series({"__name__": "down", "job": "up"}, [(2.0, T_MS)])
    assert rows(request(one)) == expected(one)
    assert rows(request(other)) == expected(other)
    assert rows(request(other, one)) == expected(other, one)
    assert rows(request(one, unused=[f"unused {i}" for i in range(20_000)])) == expected(one)


def test_the_staleness_marker_keeps_its_bits():
    assert samples_of(request(Series(UP, [(STALE, T_MS)]))).values.view(np.uint64).tolist() == [STALE_BITS]


LABELS = st.dictionaries(st.sampled_from(["a", "b", "job"]), st.text(max_size=20), max_size=3)
POINT = st.tuples(
    st.floats(allow_nan=False) | st.just(0.0) | st.just(-0.0), st.integers(-10, 2**45) | st.integers(T_MS, T_MS + 9)
)
ANY = st.builds(
    Series,
    LABELS.map(lambda names: {"__name__": "m", **names}),
    st.lists(POINT, max_size=3),
    st.sampled_from([b"", META, b"x" * 130]),
    st.sampled_from([0, 1, T_MS, 2**42]),
    st.integers(0, 1),
    st.integers(0, 1),
)


@given(st.lists(ANY, max_size=12), st.integers(0, 300))
def test_any_mixture_of_series_arrives_as_it_was_sent(series: list[Series], unused: int):
    body = request(*series, unused=[f"#{i}" for i in range(unused)])
    assert rows(body) == expected(*series)


@given(st.data())
def test_damaged_bytes_mean_what_the_protobuf_parser_says(data: st.DataObject):
    series = Series(UP, [(1.0, T_MS)], metadata=META, created_ms=T_MS)
    whole = request(series, series)
    wire = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = MESSAGES["Request"].FromString(bytes(wire))
    except Exception:
        with pytest.raises(DecodeError):
            samples_of(bytes(wire))
        return
    meant = [_meant(message.symbols, one) for one in message.timeseries]
    if None in meant:
        with pytest.raises(DecodeError, match=r"invalid_labels|bad_reference"):
            samples_of(bytes(wire))
    else:
        assert rows(bytes(wire)) == expected(*(one for one in meant if one))


def _meant(symbols: Sequence[str], series: Any) -> Series | None:
    """A series as the protobuf parser reads it; None when its labels are none."""
    if any(ref >= len(symbols) for ref in series.labels_refs) or len(series.labels_refs) % 2:
        return None
    texts = [symbols[ref] for ref in series.labels_refs]
    names = dict(zip(texts[::2], texts[1::2], strict=True))
    if len(names) * 2 != len(texts) or "" in names or not names.get("__name__"):
        return None
    return Series(names, [(sample.value, sample.timestamp) for sample in series.samples])


def test_histograms_and_exemplars_are_counted_and_the_samples_taken():
    body = request(Series(UP, [(1.0, T_MS)], exemplars=1), Series(UP, [], histograms=2))
    decoded = connector.decode(bytes(cramjam.snappy.compress_raw(body)), HEADERS, 0)
    assert (len(decoded.events), decoded.dropped) == (1, {"native_histogram": 2, "exemplar": 1})


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (Series(UP, [(1.0, T_MS)], refs=[0, 99]), "bad_reference"),
        (Series(UP, [(1.0, T_MS), (2.0, T_MS + 1)], refs=[0, 99]), "bad_reference"),
        (Series(UP, [(1.0, T_MS)], refs=[1]), "invalid_labels"),
        (Series(UP, [(1.0, T_MS)], refs=[1, 2, 1, 3]), "invalid_labels"),
        (Series({"job": "a"}, [(1.0, T_MS)]), "invalid_labels"),
        (Series({"__name__": "a", "": "x"}, [(1.0, T_MS)]), "invalid_labels"),
        (Series({}, [(1.0, T_MS)]), "invalid_labels"),
    ],
)
def test_label_sets_that_prometheus_would_refuse_are_refused(series: Series, reason: str):
    with pytest.raises(DecodeError) as refused:
        samples_of(request(series))
    assert (refused.value.reason, refused.value.status) == (reason, 400)


def test_a_label_that_is_not_utf8_is_refused():
    body = request(Series({"__name__": "m", "x": "????"}, [(1.0, T_MS)])).replace(b"????", b"\xff\xfe\xff\xfe")
    with pytest.raises(DecodeError, match="bad_utf8"):
        samples_of(body)


def test_an_unknown_message_is_refused_with_the_list_of_what_is_read():
    headers = {**HEADERS, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}
    with pytest.raises(DecodeError) as refused:
        connector.decode(b"x", headers, 0)
    assert refused.value.status == 415
    assert "proto=prometheus.WriteRequest" in refused.value.detail
    assert "proto=io.prometheus.write.v2.Request" in refused.value.detail


@pytest.mark.parametrize(
    ("taken", "status", "text"),
    [
        (Taken(7), 204, ""),
        (
            Taken(5, {"late": 2, "future": 1}),
            400,
            "partial_write: 5 samples were written, 3 were not (future: 1, late: 2)\n",
        ),
    ],
)
def test_the_answer_says_how_many_samples_were_written(taken: Taken, status: int, text: str):
    answer = connector.answer(taken)
    assert (answer.status, answer.text) == (status, text)
    assert answer.headers == {
        "X-Prometheus-Remote-Write-Samples-Written": str(taken.accepted),
        "X-Prometheus-Remote-Write-Histograms-Written": "0",
        "X-Prometheus-Remote-Write-Exemplars-Written": "0",
    }
