"""Blocks: runs of series that come again are written once, and read back as what they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from engine.core import labels as label_sets
from engine.core.batching import Samples, label_sizes, split_samples
from engine.core.blocks import Runs, ends_run, is_block, unpack
from engine.core.group import StepConfig
from engine.core.messages import MetricBatch, decode_batch, encode, pack
from engine.core.router import Router
from engine.core.step import Shard
from engine.replay import Pipeline
from tests.core.builders import flat, groups, one_rule

NAMES = st.sampled_from(["a", "b", "le", "path"])
VALUES = st.sampled_from(["x", "y", "1", "+Inf", 'a"},{"b', "ü"])
LABELS = st.builds(lambda name, rest: {"__name__": name, **rest}, st.sampled_from("mn"), st.dictionaries(NAMES, VALUES))


def target(number: int, count: int = 200) -> list[bytes]:
    return [label_sets.encode({"__name__": f"m{i % 7}", "i": str(i), "job": f"j{number}"}) for i in range(count)]


def scraped(runs: Runs, series: list[bytes], cuts: list[int]) -> list[bytes]:
    """The entries of one scrape, sent in requests that end at `cuts`."""
    out: list[bytes] = []
    for start, stop in zip([0, *cuts], [*cuts, len(series)], strict=True):
        out += runs.pack(series[start:stop], np.zeros(stop - start, np.int64))[0]
    return out


@settings(max_examples=60)
@given(st.lists(st.tuples(LABELS, st.integers(0, 2)), max_size=60), st.randoms())
def test_whatever_is_packed_is_unpacked_again_in_order_and_with_its_times(rows, rng: random.Random) -> None:
    series = [label_sets.encode(labels) for labels, _ in rows]
    times = np.array(sorted(t for _, t in rows), np.int64)
    runs = Runs()
    for _ in range(4):
        cut = rng.randint(0, len(series))
        for part in (slice(0, cut), slice(cut, None)):
            entries, ends = runs.pack(series[part], times[part])
            assert flat(entries, times[part][ends - 1].tolist()) == list(
                zip(series[part], times[part].tolist(), strict=True)
            )


def test_a_run_becomes_a_block_when_it_comes_for_the_second_time() -> None:
    runs, series = Runs(), target(1)
    assert scraped(runs, series, []) == series
    blocks = scraped(runs, series, [])
    assert len(blocks) < len(series) / 5
    assert scraped(runs, series, []) == blocks


@settings(max_examples=30)
@given(st.integers(1, 199), st.integers(1, 199))
def test_where_a_request_was_cut_changes_no_block_but_those_beside_the_cut(first: int, second: int) -> None:
    runs, series = Runs(), target(1)
    whole = [scraped(runs, series, []) for _ in range(2)][1]
    cut = scraped(runs, series, sorted({first, second}))
    missing = {entry for entry in whole if is_block(entry)} - set(cut)
    assert len(missing) <= 2


def test_series_in_a_new_order_each_time_stand_one_by_one() -> None:
    runs, series, rng = Runs(), target(1), random.Random(7)
    for _ in range(5):
        rng.shuffle(series)
        assert sum(is_block(entry) for entry in scraped(runs, list(series), [])) <= 2


def test_memory_of_runs_is_bounded() -> None:
    runs = Runs(limit=50)
    for number in range(100):
        scraped(runs, target(number), [])
    assert len(runs._blocks) <= 100


@pytest.mark.parametrize(
    "block",
    [
        b"[]",
        b"[{}]",
        b"[{},{}]",
        b'[{},{"a":["1"]},1]',
        b'[{},{"a":["1"],"b":[]}]',
        b'[{},{"a":[1]}]',
        b"[1,2]",
    ],
)
def test_what_is_no_block_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match="block"):
        unpack(block)


def in_blocks(source: str, seq: int, entries: list[bytes], t_ms: list[int], values: list[float]) -> MetricBatch:
    return MetricBatch(source, 1, seq, t_ms[-1] + 1, 0, list(map(Raw, entries)), t_ms, pack(values))


RULES = groups(
    """
groups:
  - name: g1
    interval: 5s
    rules:
      - {alert: Rate, expr: 'sum by (job) (rate({__name__=~"m[0-3]"}[1m])) > 2'}
      - {alert: High, expr: 'm5 > 180', for: 5s}
"""
) + groups("groups: [{name: g2, rules: [{alert: B, expr: 'max(m1) > 190'}]}]", "two.yml")


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_rules_decide_the_same_on_blocks_as_on_single_series(seed: int, shards: int) -> None:
    rng, runs = random.Random(seed), Runs()
    pipelines = [Pipeline(RULES, shards, StepConfig(eager_per_s=3)) for _ in range(2)]
    seen: list[list[str]] = [[], []]
    for scrape in range(12):
        at_ms = scrape * 5_000 + 7
        series = [key for number in range(3) if rng.random() < 0.9 for key in target(number, 60)]
        values = [float(rng.randint(0, 200)) for _ in series]
        entries, _ = runs.pack(series, np.full(len(series), at_ms))
        if not series:
            continue
        for found, pipeline, own in zip(seen, pipelines, (series, entries), strict=True):
            batch = decode_batch(encode(in_blocks("s", scrape + 1, own, [at_ms] * len(own), values)))
            found += [t.id for t in pipeline.feed(batch).transitions]
    assert seen[0] == seen[1]
    assert sum(len(w) for s in pipelines[0].shards.values() for g in s.groups for w in g.windows.values()) == sum(
        len(w) for s in pipelines[1].shards.values() for g in s.groups for w in g.windows.values()
    )


def test_a_router_passes_a_batch_on_as_it_is_where_a_shard_wants_all_of_it() -> None:
    runs = Runs()
    entries = [scraped(runs, target(1), []) for _ in range(2)][1]
    whole = in_blocks("s", 1, entries, [7] * len(entries), [1.0] * 200)
    (message,) = Router(one_rule("'{job=\"j1\"}'"), 4).route(whole)
    assert message.batch is whole


def test_a_router_takes_a_block_apart_of_which_little_is_wanted() -> None:
    runs = Runs()
    entries = [scraped(runs, target(1), []) for _ in range(2)][1]
    (message,) = Router(one_rule("m1"), 4).route(
        in_blocks("s", 1, entries, [7] * len(entries), [*map(float, range(200))])
    )
    batch = message.batch
    assert isinstance(batch, MetricBatch)
    wanted = [(key, 7) for key in target(1) if label_sets.decode(key)["__name__"] == "m1"]
    got = flat(batch.series, batch.t_ms)
    assert [row for row in got if row in wanted] == wanted
    assert len(got) < 60
    assert [target(1)[int(value)] for value in batch.numbers] == [key for key, _ in got]


def test_a_batch_whose_blocks_do_not_fit_its_values_is_refused_and_nothing_of_it_taken() -> None:
    runs = Runs()
    entries = [scraped(runs, target(1), []) for _ in range(2)][1]
    short = in_blocks("s", 1, entries, [7] * len(entries), [1.0] * 199)
    shard = Shard(one_rule("m1"))
    (message,) = Router(one_rule("m1"), 4).route(in_blocks("s", 1, entries, [7] * len(entries), [1.0] * 200))
    with pytest.raises(ValueError, match="200 series and 199 values"):
        Router(one_rule("m1"), 4).route(short)
    with pytest.raises(ValueError, match="series and"):
        shard.step(type(message)(message.shard, short))
    assert [len(window) for window in shard.groups[0].windows.values()] == [0]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(9, 40), st.integers(3_000, 9_000))
def test_pieces_of_blocks_fit_and_lose_nothing(counts: list[int], max_events: int, max_bytes: int) -> None:
    values = np.arange(float(sum(counts)))
    samples = Samples([b"x" * 50 * n for n in counts], np.arange(len(counts)), values, np.array(counts))
    pieces = list(split_samples(samples, label_sizes(samples), max_events, max_bytes))
    assert np.concatenate([piece.values for piece in pieces]).tolist() == values.tolist()
    assert [n for piece in pieces for n in piece.counts.tolist()] == counts
    assert all(0 < len(piece) <= max_events for piece in pieces)


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=60))
def test_a_series_ends_a_run_by_its_key_alone_wherever_it_stands(keys: list[bytes]) -> None:
    stops = Runs.stops(keys, np.zeros(len(keys), np.int64))
    assert [i + 1 for i, key in enumerate(keys) if ends_run(key) or i + 1 == len(keys)] == stops


def test_what_a_run_is_to_stand_as_is_undecided_until_it_comes_again() -> None:
    runs = Runs()
    worth_it, alike, short = target(1, 4), target(1, 1) * 4, target(1, 2)
    assert runs.block(worth_it, lambda: worth_it) is None
    assert runs.block(worth_it, lambda: worth_it)
    assert [runs.block(alike, lambda: alike) for _ in range(2)] == [None, b""]
    assert runs.block(short, lambda: short) == b""
