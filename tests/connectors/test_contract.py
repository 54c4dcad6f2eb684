"""What every connector in the folder promises: a body is decoded whole, or refused with a reason."""

from __future__ import annotations

import gzip
import zlib

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import Connector, Decoded, DecodeError, _otlp, _remote_write_v2, discover, loki_push, remote_write
from engine.core import labels
from engine.core.batching import Samples, count
from tests.core.builders import flat

T_MS = 1_700_000_000_000
CONNECTORS = discover()


def remote_write_body() -> bytes:
    sample = remote_write.MESSAGES["Sample"](value=1.5, timestamp=T_MS)
    label = remote_write.MESSAGES["Label"]
    series = remote_write.MESSAGES["TimeSeries"](
        labels=[label(name="__name__", value="up"), label(name="job", value="a")], samples=[sample]
    )
    request = remote_write.MESSAGES["WriteRequest"](timeseries=[series, series])
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def remote_write_v2_body() -> bytes:
    made = _remote_write_v2.MESSAGES
    sample = made["Sample"](value=1.5, timestamp=T_MS)
    series = made["TimeSeries"](labels_refs=[1, 2, 3, 4], samples=[sample], metadata=b"\x08\x02")
    request = made["Request"](symbols=["", "__name__", "up", "job", "a"], timeseries=[series, series])
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def loki_protobuf_body() -> bytes:
    entry = loki_push.MESSAGES["Entry"](timestamp={"seconds": 1_700_000_000, "nanos": 5}, line=b"hello")
    stream = loki_push.MESSAGES["Stream"](labels='{job="a"}', entries=[entry])
    request = loki_push.MESSAGES["PushRequest"](streams=[stream])
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def otlp_body() -> bytes:
    made = _otlp.MESSAGES
    service = made["KeyValue"](key="service.name", value={"string_value": "shop"})
    record = made["LogRecord"](time_unix_nano=T_MS * 1_000_000, body={"string_value": "hello"}, trace_id=b"\x01" * 16)
    logs = made["ResourceLogs"](resource={"attributes": [service]}, scope_logs=[{"log_records": [record]}])
    return bytes(made["ExportRequest"](resource_logs=[logs]).SerializeToString())


OTLP_JSON = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},'
    b'"scopeLogs":[{"scope":{},"logRecords":[{"timeUnixNano":"1700000000000000000","body":{"stringValue":"hello"},'
    b'"traceId":"0102030405060708090a0b0c0d0e0f10"}]}]}]}'
)
LOKI_JSON = b'{"streams":[{"stream":{"job":"a"},"values":[["1700000000000000005","hello",{"trace":"1"}]]}]}'
TEXT_PAGE = b'# TYPE up gauge\nup{job="a"} 1 1700000000000\n'
EXAMPLES: dict[str, list[tuple[bytes, dict[str, str]]]] = {
    "remote_write": [
        (remote_write_body(), {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}),
        (
            remote_write_v2_body(),
            {
                "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                "Content-Encoding": "snappy",
            },
        ),
    ],
    "loki_push": [
        (LOKI_JSON, {"Content-Type": "application/json"}),
        (gzip.compress(LOKI_JSON), {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
        (loki_protobuf_body(), {"Content-Type": "application/x-protobuf"}),
        (zlib.compress(LOKI_JSON), {"Content-Type": "application/json", "Content-Encoding": "deflate"}),
    ],
    "otlp_logs": [
        (otlp_body(), {"Content-Type": "application/x-protobuf"}),
        (OTLP_JSON, {"Content-Type": "application/json"}),
        (gzip.compress(OTLP_JSON), {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
    ],
    "scrape": [
        (TEXT_PAGE, {"Content-Type": "text/plain; version=0.0.4"}),
        (b'# TYPE a counter\na_total{b="c"} 1.0 1700000000\n# EOF\n', {"Content-Type": "application/openmetrics-text"}),
    ],
}
CASES = [
    pytest.param(connector, body, headers, id=f"{connector.name}-{i}")
    for connector in CONNECTORS
    for i, (body, headers) in enumerate(EXAMPLES[connector.name])
]


def decode(connector: Connector, body: bytes, headers: dict[str, str]) -> Decoded | None:
    """What comes out; None if it was refused with a reason. Any other exception fails the test."""
    try:
        return connector.decode(body, headers, T_MS)
    except DecodeError as error:
        refused = error
    assert refused.reason.isidentifier()
    assert refused.detail
    assert 400 <= refused.status < 500
    return None


def check(decoded: Decoded) -> None:
    """Events are well formed: canonical labels, columns of one length, entries oldest first."""
    events = decoded.events
    if isinstance(events, Samples):
        assert len(events.series) == len(events.t_ms)
        raws = [labels for labels, _ in flat(events.series, events.t_ms.tolist())]
        assert len(raws) == len(events.values)
    else:
        raws = [stream.labels for stream in events]
        for stream in events:
            assert [e.t_ns for e in stream.entries] == sorted(e.t_ns for e in stream.entries)
    for raw in raws:
        assert bytes(raw) == labels.encode(labels.decode(raw))


def test_every_module_in_the_folder_is_a_connector_with_its_own_name_and_path():
    assert [connector.name for connector in CONNECTORS] == ["loki_push", "otlp_logs", "remote_write", "scrape"]
    paths = [connector.path for connector in CONNECTORS if connector.path]
    assert len(set(paths)) == len(paths)
    assert set(EXAMPLES) == {connector.name for connector in CONNECTORS}


@pytest.mark.parametrize(("connector", "body", "headers"), CASES)
def test_a_good_body_is_decoded(connector: Connector, body: bytes, headers: dict[str, str]):
    decoded = connector.decode(body, headers, T_MS)
    check(decoded)
    assert count(decoded.events) >= 1


@pytest.mark.parametrize(("connector", "body", "headers"), CASES)
def test_an_empty_body_is_refused(connector: Connector, body: bytes, headers: dict[str, str]):
    assert decode(connector, b"", headers) is None


@pytest.mark.parametrize(("connector", "body", "headers"), CASES)
def test_a_body_cut_anywhere_is_refused_or_well_formed(connector: Connector, body: bytes, headers: dict[str, str]):
    for length in range(len(body)):
        decoded = decode(connector, body[:length], headers)
        if decoded is not None:
            check(decoded)


@pytest.mark.parametrize(("connector", "body", "headers"), CASES)
@given(data=st.data())
def test_random_and_damaged_bytes_are_refused_or_well_formed(
    connector: Connector, body: bytes, headers: dict[str, str], data: st.DataObject
):
    position = data.draw(st.integers(0, len(body) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=8))
    damaged = [noise * 5, body[:position] + noise + body[position + len(noise) :]]
    if connector.name != "otlp_logs" and "protobuf" in headers["Content-Type"]:
        plain = bytes(cramjam.snappy.decompress_raw(body))
        cut = min(position, len(plain) - 1)
        damaged.append(bytes(cramjam.snappy.compress_raw(plain[:cut] + noise + plain[cut + len(noise) :])))
    for candidate in damaged:
        decoded = decode(connector, candidate, headers)
        if decoded is not None:
            check(decoded)


@pytest.mark.parametrize("connector", [c for c in CONNECTORS if c.path], ids=lambda c: c.name)
def test_an_unknown_content_type_is_refused_and_the_known_ones_are_named(connector: Connector):
    with pytest.raises(DecodeError) as refused:
        connector.decode(b"x", {"Content-Type": "application/cbor"}, T_MS)
    assert refused.value.status == 415
    assert all(name in refused.value.detail for name in connector.content_types)
