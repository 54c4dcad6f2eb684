"""A replay makes every decision again, and names each one that comes out otherwise."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from engine.bundle import Recorded
from engine.core.group import StepConfig
from engine.core.messages import Transition, encode
from engine.core.rules import RuleGroup
from engine.flow import ALERTS, METRICS, OUTCOMES
from engine.replay import Comparison, Pipeline, replay
from tests.core.builders import batch, one_rule

CONFIG = StepConfig()
RULES = one_rule("sum(x) > 5")
BATCHES = [
    batch("a", 1, 1_000, [("x", 1_000, 1.0)]),
    batch("a", 2, 2_001, [("x", 2_000, 9.0)]),
    batch("a", 3, 30_001, [("x", 30_000, 2.0)]),
]


def recorded(topic: str, message: msgspec.Struct, offset: int = 0) -> Recorded:
    return Recorded(topic, 0, offset, Raw(encode(message)))


def decided(rules: list[RuleGroup] = RULES) -> list[Transition]:
    pipeline = Pipeline(rules, 1, CONFIG)
    return [transition for one in BATCHES for transition in pipeline.feed(one).transitions]


INPUT = [recorded(METRICS.name, one, number) for number, one in enumerate(BATCHES)]
OUTPUT = [recorded(ALERTS.name, one, number) for number, one in enumerate(decided())]


def run(messages: list[Recorded], rules: list[RuleGroup] = RULES) -> Comparison:
    return replay(messages, rules, 1, CONFIG)


def test_the_same_input_and_rules_give_the_same_transitions() -> None:
    again = run(INPUT + OUTPUT)
    assert [one.state for one in again.identical] == ["firing", "resolved"]
    assert again.same
    assert (again.samples, again.messages) == (3, 5)


def test_it_does_not_matter_when_a_transition_was_recorded() -> None:
    assert run(OUTPUT + INPUT).same


def test_another_threshold_gives_other_transitions() -> None:
    again = run(INPUT + OUTPUT, one_rule("sum(x) > 10"))
    assert ([one.state for one in again.gone], again.added, again.same) == (["firing", "resolved"], [], False)


def test_a_transition_that_was_not_recorded_is_named() -> None:
    again = run(INPUT + OUTPUT[:1])
    assert ([one.state for one in again.added], again.same) == (["resolved"], False)


def test_a_transition_with_another_value_is_another_decision() -> None:
    altered = [msgspec.structs.replace(one, value="8") for one in decided()]
    again = run([*INPUT, *(recorded(ALERTS.name, one) for one in altered)])
    assert ([one.value for one in again.gone], again.same) == (["8", "8"], False)


def test_when_its_cause_arrived_is_no_part_of_a_decision() -> None:
    altered = [msgspec.structs.replace(one, received_ms=7) for one in decided()]
    assert run([*INPUT, *(recorded(ALERTS.name, one) for one in altered)]).same


def test_a_batch_that_was_sent_twice_counts_once() -> None:
    again = run([*INPUT, *INPUT, *OUTPUT])
    assert again.same
    assert again.dropped == {"repeated_batch": 3}


def test_what_could_not_be_read_then_is_counted_and_left_out_now() -> None:
    broken = Recorded(METRICS.name, 0, 9, Raw(b'"AHg="'))
    again = run([broken, *INPUT, recorded(OUTCOMES.name, BATCHES[0]), *OUTPUT])
    assert again.same
    assert again.dropped == {"not_decodable": 1}
