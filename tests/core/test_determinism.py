"""The promise: the same events and rules give the same transitions, however they are batched and interleaved."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.group import StepConfig
from engine.replay import Pipeline
from tests.core.builders import batch, groups

RULES = groups(
    """
groups:
  - name: counts
    interval: 5s
    rules:
      - {alert: Many, expr: 'sum by (user) (count_over_time(x[10s])) > 4'}
      - {alert: Held, expr: 'sum(count_over_time(x[5s])) > 6', for: 3s, keep_firing_for: 4s}
  - name: values
    interval: 7s
    rules:
      - {alert: High, expr: 'max by (user) (x) > 7', for: 1s}
      - {alert: Rising, expr: 'sum by (user) (increase(x[10s])) > 20'}
"""
)
CONFIG = StepConfig(eager_per_s=3, eager_grid_ms=50)
SOURCES = ("a", "b", "c")


def events_of(source: str, rng: random.Random) -> list:
    times = sorted(rng.sample(range(1, 40_000), 40))
    return [(f"x{{user={source}{rng.randrange(3)}}}", t, float(rng.randrange(10))) for t in times]


def batches_of(source: str, events: list, rng: random.Random) -> list:
    """Cut a source's events into batches; every batch promises what came before it, the last one everything."""
    out, rest = [batch(source, 1, 0, [(f"x{{user={source}0}}", 0, 0.0)])], events
    while rest:
        size = rng.randint(1, 20)
        piece, rest = rest[:size], rest[size:]
        out.append(batch(source, len(out) + 1, piece[-1][1], piece))
    out.append(batch(source, len(out) + 1, 60_000))
    return out


def transitions(rng: random.Random, events: dict, shards: int) -> set:
    queues = {source: batches_of(source, found, rng) for source, found in events.items()}
    pipeline = Pipeline(RULES, shards, CONFIG)
    out = []
    for source in SOURCES:  # every source is known before time moves on
        out += pipeline.feed(queues[source].pop(0)).transitions
    while any(queues.values()):
        source = rng.choice([source for source, queue in queues.items() if queue])
        out += pipeline.feed(queues[source].pop(0)).transitions
    ids = [t.id for t in out]
    assert len(ids) == len(set(ids))
    return set(ids)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), shards=st.integers(1, 7))
def test_batching_interleaving_and_sharding_change_nothing(seed, shards):
    rng = random.Random(seed)
    events = {source: events_of(source, rng) for source in SOURCES}
    assert transitions(random.Random(seed + 1), events, 1) == transitions(random.Random(seed + 2), events, shards)


def test_the_example_has_something_to_decide():
    rng = random.Random(1)
    events = {source: events_of(source, rng) for source in SOURCES}
    assert len(transitions(random.Random(2), events, 1)) > 20
