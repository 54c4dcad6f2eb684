"""Remote write: the shortcut gives exactly what the full parser gives."""

from __future__ import annotations

import math
from typing import Any

import cramjam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import DecodeError
from connectors.remote_write import MESSAGES, decode
from engine.core import labels
from engine.core.batching import Samples
from engine.core.window import STALE, STALE_BITS
from tests.core.builders import flat

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
T_MS = 1_700_000_000_000
Series = tuple[dict[str, str], list[tuple[float, int]]]


def write_request(*series: Series, **extra: Any) -> bytes:
    label, sample, time_series = MESSAGES["Label"], MESSAGES["Sample"], MESSAGES["TimeSeries"]
    request = MESSAGES["WriteRequest"](
        timeseries=[
            time_series(
                labels=[label(name=name, value=value) for name, value in sorted(names.items())],
                samples=[sample(value=value, timestamp=t_ms) for value, t_ms in points],
                **extra,
            )
            for names, points in series
        ]
    )
    return bytes(request.SerializeToString())


def samples_of(body: bytes) -> Samples:
    events = decode(bytes(cramjam.snappy.compress_raw(body)), HEADERS, 0).events
    assert isinstance(events, Samples)
    return events


def rows(body: bytes) -> list[tuple[bytes, int, int]]:
    """Label bytes, time and value bits of every sample, in a fixed order."""
    samples = samples_of(body)
    bits = samples.values.view(np.uint64).tolist()
    return sorted((*row, value) for row, value in zip(flat(samples.series, samples.t_ms.tolist()), bits, strict=True))


def expected(*series: Series) -> list[tuple[bytes, int, int]]:
    return sorted(
        (labels.encode(names), t_ms, int(np.float64(value).view(np.uint64)))
        for names, points in series
        for value, t_ms in points
    )


UP = {"__name__": "up", "job": "bridge"}


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([(UP, [(1.0, T_MS)])], id="one sample"),
        pytest.param([(UP, [(0.0, T_MS)])], id="zero, which protobuf leaves out"),
        pytest.param([(UP, [(1.0, T_MS), (2.0, T_MS + 1)])], id="several samples"),
        pytest.param([(UP, [])], id="no sample"),
        pytest.param([(UP, [(1.0, 0)])], id="time zero, which protobuf leaves out"),
        pytest.param([(UP, [(1.0, -5)])], id="time before 1970"),
        pytest.param([(UP, [(1.0, 2**35 - 1)]), (UP, [(1.0, 2**35)])], id="five and six bytes of time"),
        pytest.param([(UP, [(1.0, 2**42 - 1)]), (UP, [(1.0, 2**42)])], id="six and seven bytes of time"),
        pytest.param([(UP, [(math.inf, T_MS), (-math.inf, T_MS + 1)])], id="infinities"),
        pytest.param([({"__name__": "x", "path": 'ü"\\\n'}, [(1.0, T_MS)])], id="labels that JSON escapes"),
        pytest.param([({"__name__": "x", "empty": ""}, [(1.0, T_MS)])], id="an empty label is no label"),
        pytest.param([(UP, [(1.0, T_MS)]), (UP, [(0.0, T_MS)]), (UP, [(2.0, T_MS), (3.0, 7)])], id="a mixture"),
    ],
)
def test_samples_arrive_as_they_were_sent_the_first_time_and_from_the_cache(series: list[Series]):
    body = write_request(*series)
    assert rows(body) == rows(body) == rows(body + body)[::2] == expected(*series)


def test_the_staleness_marker_keeps_its_bits():
    for _ in range(2):
        assert samples_of(write_request((UP, [(STALE, T_MS)]))).values.view(np.uint64).tolist() == [STALE_BITS]


LABELS = st.dictionaries(st.sampled_from(["a", "b", "job"]), st.text(max_size=20), max_size=3)
POINTS = st.lists(
    st.tuples(
        st.floats(allow_nan=False) | st.just(0.0) | st.just(-0.0), st.integers(-10, 2**45) | st.integers(T_MS, T_MS + 9)
    ),
    max_size=3,
)


@given(st.lists(st.tuples(LABELS.map(lambda names: {"__name__": "m", **names}), POINTS), max_size=12))
def test_any_mixture_of_series_arrives_as_it_was_sent(series: list[Series]):
    body = write_request(*series)
    plain = [(names, [(value, t_ms) for value, t_ms in points]) for names, points in series]
    assert rows(body) == expected(*plain)
    assert rows(body) == expected(*plain)


@given(st.binary(min_size=0, max_size=18))
def test_a_known_series_with_any_other_ending_takes_the_full_parser(ending: bytes):
    known = write_request((UP, [(1.0, T_MS)]))
    rows(known)
    series = MESSAGES["WriteRequest"].FromString(known).timeseries[0].SerializeToString()
    wire = series[:-18] + ending
    body = b"\x0a" + bytes([len(wire)]) + wire
    try:
        parsed = MESSAGES["WriteRequest"].FromString(body).timeseries[0]
    except Exception:
        with pytest.raises(DecodeError):
            samples_of(body)
        return
    if len({label.name for label in parsed.labels}) < len(parsed.labels) or not all(x.name for x in parsed.labels):
        with pytest.raises(DecodeError, match="invalid_labels"):
            samples_of(body)
        return
    samples = samples_of(body)
    assert samples.t_ms.tolist() == [sample.timestamp for sample in parsed.samples]


def test_histograms_and_exemplars_are_counted_and_the_samples_taken():
    body = write_request((UP, [(1.0, T_MS)]), histograms=[b"", b""], exemplars=[b""])
    decoded = decode(bytes(cramjam.snappy.compress_raw(body)), HEADERS, 0)
    assert (len(decoded.events), decoded.dropped) == (1, {"native_histogram": 2, "exemplar": 1})


@pytest.mark.parametrize(
    ("body", "headers", "reason", "status"),
    [
        (b"", {}, "empty_body", 400),
        (b"\xff\xff\xff\xff\x0f", {}, "body_too_large", 413),
        (b"\x05abc", {}, "bad_snappy", 400),
        (b"\x01\x00\x0a", {}, "bad_protobuf", 400),
        (b"x", {"Content-Type": "application/json"}, "unsupported_content_type", 415),
        (b"x", {"Content-Type": "application/x-protobuf;proto=other.Request"}, "unsupported_content_type", 415),
        (b"x", {"Content-Encoding": "gzip"}, "unsupported_encoding", 415),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(body: bytes, headers: dict[str, str], reason: str, status: int):
    with pytest.raises(DecodeError) as refused:
        decode(body, {**HEADERS, **headers}, 0)
    assert (refused.value.reason, refused.value.status) == (reason, status)


@pytest.mark.parametrize("pairs", [[("job", "a")], [("__name__", "a"), ("b", "1"), ("b", "2")], [("", "x")]])
def test_label_sets_that_prometheus_would_refuse_are_refused(pairs: list[tuple[str, str]]):
    label = MESSAGES["Label"]
    series = MESSAGES["TimeSeries"](labels=[label(name=name, value=value) for name, value in pairs])
    with pytest.raises(DecodeError, match="invalid_labels"):
        samples_of(MESSAGES["WriteRequest"](timeseries=[series]).SerializeToString())
