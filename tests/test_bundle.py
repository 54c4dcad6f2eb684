"""A bundle gives back exactly what was recorded, or says what is wrong with the file."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.bundle import FORMAT, BundleError, BundleReader, BundleWriter, Manifest, RuleConfig

MANIFEST = Manifest(
    format=FORMAT,
    version="1",
    created_ms=5,
    rules={"promql/a.yml": "groups: []"},
    config=RuleConfig(
        shards=2,
        eager_per_s=1,
        eager_grid_ms=1,
        source_idle_ms=1,
        external_labels={"a": "b"},
        external_url="http://here",
    ),
)
MESSAGES = [("metrics", 0, 0, b'{"kind":"metrics"}'), ("logs", 3, 7, b'{"kind":"logs"}')]


def write(path: Path, messages: list[tuple[str, int, int, bytes]] = MESSAGES, manifest: Manifest = MANIFEST) -> Path:
    with BundleWriter(path, manifest) as writer:
        for message in messages:
            writer.add(*message)
    return path


def read(path: Path) -> list[tuple[str, int, int, bytes]]:
    with BundleReader(path) as reader:
        assert reader.manifest == MANIFEST
        return [(one.topic, one.partition, one.offset, one.content) for one in reader.messages()]


def rewrite(path: Path, old: bytes, new: bytes) -> Path:
    """Alter the file's text and pack it again, so that gzip's own checksum holds."""
    text = gzip.decompress(path.read_bytes())
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new, 1)))
    return path


def test_what_was_recorded_comes_back_in_its_order(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.sentinel")) == MESSAGES


def test_a_person_can_read_it_line_by_line(tmp_path: Path) -> None:
    lines = gzip.decompress(write(tmp_path / "a.sentinel").read_bytes()).splitlines()
    assert lines[1] == b'["metrics",0,0,{"kind":"metrics"}]'
    assert lines[-1].startswith(b'{"messages":2,"sha256":')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(value=st.one_of(st.binary(max_size=50), st.sampled_from([b'"text"', b'{"a":\n1}', b"{", b"[1]", b'{"a":1}'])))
def test_any_bytes_come_back_as_they_were(tmp_path: Path, value: bytes) -> None:
    assert read(write(tmp_path / "a.sentinel", [("metrics", 0, 0, value)])) == [("metrics", 0, 0, value)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"logs",3,7', b'"logs",3,8'),
        (b'["metrics",0,0,{"kind":"metrics"}]\n', b""),
        (b"groups: []", b"groups: [1]"),
        (b'"messages":2', b'"messages":3'),
    ],
)
def test_an_altered_file_is_noticed(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = rewrite(write(tmp_path / "a.sentinel"), old, new)
    with BundleReader(path) as reader, pytest.raises(BundleError, match="was altered"):
        list(reader.messages())


def test_a_file_without_its_end_is_noticed(tmp_path: Path) -> None:
    path = rewrite(write(tmp_path / "a.sentinel"), b'{"messages":2', b'["metrics",0,1,{}]\n{"messages":2')
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text[: text.rindex(b'{"messages"')]))
    with BundleReader(path) as reader, pytest.raises(BundleError, match="cut off after message 3"):
        list(reader.messages())


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_a_download_that_was_cut_off_is_noticed(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "a.sentinel", [("metrics", 0, n, b'{"n":%d}' % (n * 7919)) for n in range(5000)])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with BundleReader(path) as reader, pytest.raises(BundleError, match="damaged after message"):
        list(reader.messages())


def test_a_recording_that_failed_has_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.sentinel"
    with contextlib.suppress(ConnectionError), BundleWriter(path, MANIFEST) as writer:
        writer.add(*MESSAGES[0])
        raise ConnectionError("the broker is away")
    with pytest.raises(BundleError, match="cut off after message 1"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not gzip", gzip.compress(b""), gzip.compress(b"[]\n")])
def test_another_file_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sentinel"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="is not a Sentinel bundle"):
        BundleReader(path)


def test_a_bundle_of_another_format_is_refused(tmp_path: Path) -> None:
    path = rewrite(write(tmp_path / "a.sentinel"), FORMAT.encode(), b"sentinel-bundle/9")
    with pytest.raises(BundleError, match="this version reads"):
        BundleReader(path)
