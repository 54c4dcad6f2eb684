"""The router keeps what some rule asks for and tells every shard how far each source is."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec import Raw

from engine.core.blocks import Runs
from engine.core.messages import MetricBatch, pack
from engine.core.router import Router, by_shard, shard_of
from engine.core.window import STALE, is_stale
from tests.core.builders import batch, groups, label_bytes

TWO = groups("groups: [{name: g1, rules: [{alert: A, expr: 'x > 1'}]}]", "one.yml") + groups(
    "groups: [{name: g2, rules: [{alert: B, expr: 'y{job=\"a\"} > 1'}]}]", "two.yml"
)


def test_groups_are_spread_by_their_key_the_same_way_everywhere():
    owned = by_shard(TWO, 64)
    assert {shard: [g.name for g in found] for shard, found in owned.items()} == {
        shard_of(TWO[0].key, 64): ["g1"],
        shard_of(TWO[1].key, 64): ["g2"],
    }


def test_a_shard_gets_what_its_rules_select_and_nothing_else():
    router = Router(TWO, 64)
    sent = router.route(batch("s", 1, 5, [("x", 1, 1.0), ("y{job=a}", 2, 2.0), ("y{job=b}", 3, 3.0), ("z", 4, 4.0)]))
    values = {message.shard: message.batch.numbers.tolist() for message in sent}
    assert values == {shard_of(TWO[0].key, 64): [1.0], shard_of(TWO[1].key, 64): [2.0]}


def test_a_shard_that_wants_nothing_of_a_batch_still_learns_the_watermark():
    sent = Router(TWO, 64).route(batch("s", 1, 5, [("x", 1, 1.0)]))
    assert sorted((len(message.batch.series), message.batch.watermark_ms) for message in sent) == [(0, 5), (1, 5)]


def test_special_values_follow_their_sample():
    full = batch("s", 1, 5, [("z", 1, float("nan")), ("x", 2, STALE)])
    (message,) = [m for m in Router(TWO, 64).route(full) if m.batch.series]
    assert is_stale(message.batch.numbers).tolist() == [True]


def test_a_metric_batch_does_not_reach_shards_that_only_read_logs():
    assert Router([], 8).route(batch("s", 1, 5, [("x", 1, 1.0)])) == []


def test_what_no_shard_wants_is_counted_also_where_a_block_passes_whole():
    runs, router = Runs(), Router(TWO, 64)
    times = np.zeros(4, np.int64)
    series = [label_bytes(f"x{{i={i}}}") for i in range(3)] + [label_bytes("z{i=1}")]
    for _ in range(2):
        entries, ends = runs.pack(series, times)
    batch_of_blocks = MetricBatch("s", 1, 1, 5, 0, list(map(Raw, entries)), times[ends - 1].tolist(), pack([1.0] * 4))
    router.route(batch_of_blocks)
    assert router.unwanted == 1
    router.route(batch("s", 2, 5, [("z", 1, 1.0), ("x", 1, 1.0)]))
    assert router.unwanted == 2


def test_a_shard_that_wants_all_of_a_batch_gets_that_very_object_and_one_that_wants_a_part_a_copy():
    whole, part = batch("s", 1, 5, [("x", 1, 1.0)]), batch("s", 2, 5, [("x", 1, 1.0), ("nobody", 1, 2.0)])
    router = Router(TWO, 64)
    assert [m.batch is whole for m in router.route(whole) if m.batch.series] == [True]
    assert [m.batch.numbers.tolist() for m in router.route(part) if m.batch.series] == [[1.0]]


def test_a_batch_whose_blocks_do_not_hold_as_many_series_as_there_are_values_is_refused_and_not_counted():
    router = Router(TWO, 64)
    short = msgspec.structs.replace(batch("s", 1, 5, [("nobody", 1, 1.0)]), values=pack([1.0, 2.0]))
    with pytest.raises(ValueError, match="1 series and 2 values"):
        router.route(short)
    assert router.unwanted == 0
