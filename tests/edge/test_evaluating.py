"""The evaluator on a real topic: restarts, repetitions and broken batches change no decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from engine.core.group import StepConfig
from engine.core.messages import MetricBatch, RuleInput, Transition, decode_dead_letter, decode_transition, encode, pack
from engine.core.router import shard_of
from engine.edge.node import Node, running
from engine.flow import ALERTS, DEAD_LETTER, RULE_INPUTS
from engine.loading import load_texts
from engine.replay import Pipeline
from tests.core.builders import batch
from tests.e2e.shop import ready
from tests.edge.conftest import Site
from tests.waiting import until

RULES = """
groups:
  - name: {name}
    interval: 1s
    rules:
      - alert: High
        expr: max by (user) (x{{group="{name}"}}) > 5
      - alert: Held
        expr: sum(count_over_time(x{{group="{name}"}}[10s])) > 3
        for: 2s
"""
NAMES = ("one", "two", "three")
LOADED = load_texts({f"promql/{name}.yml": RULES.format(name=name) for name in NAMES})
SHARDS = 8
CONFIG = StepConfig()  # what the default settings say


def inputs(name: str, heights: Sequence[int]) -> list[RuleInput]:
    """One batch a second of one source, for the shard of one group."""
    [group] = [group for group in LOADED.groups if group.name == name]
    series = f"x{{group={name},user=u}}"
    return [
        RuleInput(
            shard_of(group.key, SHARDS), batch(name, number, number * 1000, [(series, number * 1000, float(height))])
        )
        for number, height in enumerate(heights, 1)
    ]


def decided(*messages: RuleInput) -> set[str]:
    """The ids of the transitions that one uninterrupted evaluator makes of these."""
    pipeline = Pipeline(LOADED.groups, SHARDS, CONFIG)
    return {one.id for message in messages for one in pipeline.shards[message.shard].step(message).transitions}


@asynccontextmanager
async def evaluator(site: Site) -> AsyncIterator[Node]:
    async with running(site.settings, ["evaluator"], LOADED) as node:
        await ready(node)
        yield node


async def feed(site: Site, messages: Sequence[RuleInput]) -> None:
    for message in messages:
        await site.put(RULE_INPUTS, encode(message), key=str(message.shard).encode())


async def alerts(site: Site) -> list[Transition]:
    return [decode_transition(value) for value in await site.read(ALERTS)]


async def worked_through(node: Node) -> None:
    app = node.parts["evaluator-app"]

    async def idle() -> bool:
        await app.ask_for_ends()
        return app.ends and not sum(app.lag().values())

    await until(idle)


async def test_an_evaluator_that_starts_again_goes_on_as_if_it_had_never_stopped(site: Site) -> None:
    streams = [inputs(name, [1, 9, 9, 9, 1, 1, 9, 9, 9, 9, 1, 1]) for name in NAMES]
    for begin, end in ((0, 5), (5, 12)):
        async with evaluator(site) as node:
            await feed(site, [message for stream in streams for message in stream[begin:end]])
            await worked_through(node)
    ids = [one.id for one in await alerts(site)]
    assert set(ids) == decided(*(message for stream in streams for message in stream))
    assert len(ids) == len(set(ids))


async def test_what_is_delivered_twice_counts_once_and_what_cannot_be_used_is_kept(site: Site) -> None:
    stream = inputs("one", [1, 9, 9, 9, 1, 1])
    good = stream[2].batch
    assert isinstance(good, MetricBatch)
    broken = msgspec.structs.replace(
        stream[2], batch=msgspec.structs.replace(good, source="other", values=pack([*good.numbers, 1.0]))
    )
    async with evaluator(site) as node:
        await feed(site, [*stream[:3], *stream[:3], broken, *stream[3:]])
        await worked_through(node)
        dropped = node.telemetry.registry.get_sample_value(
            "sentinel_drops_total", {"stage": "evaluator", "reason": "repeated_batch"}
        )
    assert dropped == 3
    ids = [one.id for one in await alerts(site)]
    assert set(ids) == decided(*stream)
    assert len(ids) == len(set(ids))
    [letter] = [decode_dead_letter(value) for value in await site.read(DEAD_LETTER)]
    assert letter.topic == "rule-inputs"
    assert "cannot be evaluated" in letter.reason
