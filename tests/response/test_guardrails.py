"""The guardrails as a table: each dangerous situation, and the name of its refusal."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.messages import Command, Target
from engine.response.guardrails import (
    HOUR_MS,
    ModeRule,
    Past,
    Policy,
    Request,
    check,
    mode_of,
    repair_of,
    target_namespaces,
)

NOW_MS = 1_800_000_000_000
COMMAND = Command(
    id="this",
    incident=9,
    rule="g/r",
    runbook="book",
    step="act",
    action="http.request",
    target=Target("http", "openclaw"),
    params={},
    severity="warning",
    issued_ms=NOW_MS,
    expires_ms=NOW_MS + 60_000,
    namespace="aureus",
)
REQUEST = Request(COMMAND, attempt=1, destructive=True, cooldown_ms=600_000, budget_per_hour=3)
AUTO = Policy(modes=(ModeRule("auto", "http.request"),))


def past(ago_ms: int, target: str = "http:openclaw", status: str = "succeeded", **changes: object) -> Past:
    given: dict[str, object] = {
        "command": f"{target} {ago_ms}",
        "incident": 1,
        "attempt": 1,
        "runbook": "book",
        "step": "act",
        "action": "http.request",
        "target": target,
        "issued_ms": NOW_MS - ago_ms,
        "status": status,
        "finished_ms": 0 if status == "sent" else NOW_MS - ago_ms + 1,
    }
    return Past(**{**given, **changes})  # type: ignore[arg-type]  # the table's columns are the fields


def failures(*ago_ms: int, status: str = "failed") -> list[Past]:
    return [past(ago, "http:other", status, runbook="other") for ago in ago_ms]


SPREAD = [past(10_000, f"http:{i}", runbook="other") for i in range(5)]


@pytest.mark.parametrize(
    ("situation", "changes", "history", "paused", "reason"),
    [
        ("a command of a replay", {"mark": "replay"}, [], False, "replay"),
        ("a command past its time", {"expires_ms": NOW_MS}, [], False, "expired"),
        ("the pause switch is on", {}, [], True, "paused"),
        ("the same target a minute ago", {}, [past(60_000)], False, "cooldown"),
        ("the same target just inside the cooldown", {}, [past(599_999)], False, "cooldown"),
        ("the same step of the same run", {}, [past(1, incident=9)], False, "cooldown"),
        ("an earlier run of the same incident", {}, [past(1, incident=9, attempt=2, step="x")], False, "cooldown"),
        (
            "the budget of the hour is spent",
            {},
            [past(i, "http:x") for i in (1, 2, HOUR_MS - 1)],
            False,
            "budget_spent",
        ),
        ("three failures in a row", {}, failures(1_000, 2_000, 3_000), False, "circuit_open"),
        ("nobody knows about the last three", {}, failures(1, 2, 3, status="inconclusive"), False, "circuit_open"),
        ("several reasons: the first of the table", {"mark": "replay"}, SPREAD, True, "replay"),
    ],
)
def test_refuses(situation: str, changes: dict[str, object], history: list[Past], paused: bool, reason: str) -> None:
    request = replace(REQUEST, command=replace(COMMAND, **changes))
    verdict = check(request, AUTO, history, paused, NOW_MS)
    assert (verdict.decision, verdict.reason) == ("refuse", reason), situation
    assert verdict.detail
    approved = check(replace(request, approved=True), AUTO, history, paused, NOW_MS)
    assert approved == verdict, "an approval answers for the mode, for nothing else"


@pytest.mark.parametrize(
    ("situation", "history"),
    [
        ("nothing was done before", []),
        ("the cooldown is over", [past(600_000)]),
        ("another runbook, which has its own cooldown", [past(1, runbook="other")]),
        ("another target", [past(1, "http:bridge")]),
        ("an earlier step of the same run", [past(1, incident=9, step="limit")]),
        ("the very same decision, made before a crash", [past(0, command="this")]),
        ("the budget has one left", [past(700_000, "http:a"), past(700_001, "http:b")]),
        ("an hour has passed", [past(HOUR_MS, f"http:{i}") for i in range(3)]),
        ("commands on many other targets: what fails is what counts", SPREAD),
        ("a success in between", [*failures(1_000, 3_000), past(2_000, "http:other", runbook="other")]),
        ("two failures are not yet a pattern", failures(1_000, 2_000)),
        ("the breaker has closed again", failures(1_800_001, 1_800_002, 1_800_003)),
        ("commands on their way are no failures", failures(1_000, 2_000, 3_000, status="sent")),
    ],
)
def test_lets_through(situation: str, history: list[Past]) -> None:
    assert check(REQUEST, AUTO, history, False, NOW_MS).decision == "send", situation


def test_a_cooldown_of_the_installation_holds_for_every_runbook() -> None:
    policy = replace(AUTO, cooldown_ms=30_000)
    assert check(REQUEST, policy, [past(29_999, runbook="other")], False, NOW_MS).reason == "cooldown"
    assert check(REQUEST, policy, [past(30_000, runbook="other")], False, NOW_MS).decision == "send"


@pytest.mark.parametrize(
    ("policy", "destructive", "runbook_mode", "mode"),
    [
        (Policy(), True, "auto", "approve"),
        (Policy(), False, "auto", "approve"),
        (Policy(default_mode="auto"), True, "auto", "approve"),
        (Policy(default_mode="auto"), False, "auto", "auto"),
        (Policy(default_mode="observe"), True, "auto", "observe"),
        (AUTO, True, "auto", "auto"),
        (AUTO, True, "approve", "approve"),
        (AUTO, True, "observe", "observe"),
        (Policy(modes=(ModeRule("observe", "*"),)), True, "auto", "observe"),
        (Policy(modes=(ModeRule("auto", "http.*"),)), True, "auto", "approve"),
        (Policy(modes=(ModeRule("auto", "http.*"),)), False, "auto", "auto"),
        (Policy(modes=(ModeRule("auto"),)), True, "auto", "approve"),
        (Policy(modes=(ModeRule("auto"), ModeRule("auto", "http.request"))), True, "auto", "approve"),
        (Policy(modes=(ModeRule("auto", "http.request", severity="critical"),)), True, "auto", "approve"),
        (Policy(modes=(ModeRule("auto", "http.request", severity="warning"),)), True, "auto", "auto"),
        (Policy(modes=(ModeRule("auto", "http.request", namespace="other"),)), True, "auto", "approve"),
        (Policy(modes=(ModeRule("auto", "http.request", namespace="aureus"),)), True, "auto", "auto"),
        (Policy(modes=(ModeRule("approve", severity="warning"), ModeRule("auto"))), True, "auto", "approve"),
    ],
)
def test_the_mode_is_the_strictest_of_policy_and_runbook(
    policy: Policy, destructive: bool, runbook_mode: str, mode: str
) -> None:
    request = replace(REQUEST, destructive=destructive, mode=runbook_mode)
    assert mode_of(request, policy).mode == mode


commands_before = st.lists(
    st.builds(
        past,
        st.integers(0, 2 * HOUR_MS),
        st.sampled_from([f"http:{name}" for name in "abcdefg"] + ["http:openclaw"]),
        st.sampled_from(["sent", "succeeded", "failed", "inconclusive", "refused"]),
        incident=st.integers(1, 9),
        attempt=st.integers(1, 2),
        step=st.sampled_from(["act", "limit"]),
        runbook=st.sampled_from(["book", "other"]),
    ),
    max_size=12,
    unique_by=lambda p: p.command,
)


@given(commands_before, st.randoms(use_true_random=False))
def test_the_order_of_the_history_does_not_matter(history: list[Past], chance: random.Random) -> None:
    shuffled = list(history)
    chance.shuffle(shuffled)
    assert check(REQUEST, AUTO, shuffled, False, NOW_MS) == check(REQUEST, AUTO, history, False, NOW_MS)


@given(commands_before)
def test_pausing_never_lets_more_through(history: list[Past]) -> None:
    assert check(REQUEST, AUTO, history, True, NOW_MS).decision == "refuse"


@given(commands_before)
def test_more_commands_on_their_way_never_let_more_through(history: list[Past]) -> None:
    before = check(REQUEST, AUTO, history, False, NOW_MS)
    after = check(REQUEST, AUTO, [*history, past(5, "http:openclaw", "sent")], False, NOW_MS)
    if before.decision == "refuse":
        assert after.decision == "refuse"


@pytest.mark.parametrize(
    ("situation", "policy", "history", "paused", "approved", "decision", "reason"),
    [
        ("it would be sent", AUTO, [], False, False, "approve", "storm"),
        ("it would wait anyway", Policy(), [], False, False, "approve", "storm"),
        ("it would only be observed", Policy(default_mode="observe"), [], False, False, "observe", "default_mode"),
        ("a cooldown would refuse it", AUTO, [past(1)], False, False, "approve", "storm"),
        ("the breaker is open", AUTO, failures(1, 2, 3), False, False, "approve", "storm"),
        ("everything is paused", AUTO, [], True, False, "refuse", "paused"),
        ("a person has agreed", AUTO, [], False, True, "send", "approved"),
        ("agreed, within the cooldown", AUTO, [past(1)], False, True, "refuse", "cooldown"),
    ],
)
def test_in_a_storm_a_person_is_asked(
    situation: str, policy: Policy, history: list[Past], paused: bool, approved: bool, decision: str, reason: str
) -> None:
    request = replace(REQUEST, storm="6 targets fail at once", approved=approved)
    verdict = check(request, policy, history, paused, NOW_MS)
    assert (verdict.decision, verdict.reason) == (decision, reason), situation


KUBERNETES = replace(
    COMMAND,
    action="kubernetes.scale",
    target=Target("kubernetes", "shop/deployment/app"),
    params={"by": 1, "ceiling": 5},
)
SCALE = ModeRule("auto", "kubernetes.scale")


@pytest.mark.parametrize(
    ("situation", "alerts", "rules", "mode", "reason"),
    [
        ("no rule about either", "aureus", [SCALE], "auto", "policy_rule"),
        (
            "strict where the target is",
            "aureus",
            [ModeRule("observe", namespace="shop"), SCALE],
            "observe",
            "policy_rule",
        ),
        (
            "strict where the alert is",
            "aureus",
            [ModeRule("observe", namespace="aureus"), SCALE],
            "observe",
            "policy_rule",
        ),
        ("lenient where the alert is alone", "aureus", [replace(SCALE, namespace="aureus")], "approve", "default_mode"),
        ("lenient where the target is alone", "aureus", [replace(SCALE, namespace="shop")], "approve", "default_mode"),
        ("the alert names none", "", [replace(SCALE, namespace="shop")], "auto", "policy_rule"),
        ("both the same", "shop", [replace(SCALE, namespace="shop")], "auto", "policy_rule"),
    ],
)
def test_the_mode_is_the_strictest_of_the_alerts_and_the_targets_namespace(
    situation: str, alerts: str, rules: list[ModeRule], mode: str, reason: str
) -> None:
    request = replace(REQUEST, command=replace(KUBERNETES, namespace=alerts))
    found = mode_of(request, Policy(modes=tuple(rules)))
    assert (found.mode, found.reason) == (mode, reason), situation


def test_a_namespace_in_the_parameters_counts_too() -> None:
    command = replace(KUBERNETES, params={"namespace": "billing"})
    assert target_namespaces(command) == ("shop", "billing")
    assert target_namespaces(COMMAND) == ()


@pytest.mark.parametrize("namespaces", [("aureus", "shop"), ("shop", "aureus"), ("", "shop"), ("shop", "shop")])
@given(st.lists(st.builds(ModeRule, st.sampled_from(["observe", "approve", "auto"]), st.just("kubernetes.scale"))))
def test_another_namespace_never_makes_a_mode_milder(namespaces: tuple[str, str], rules: list[ModeRule]) -> None:
    alerts, targets = namespaces
    spread = tuple(replace(rule, namespace=("aureus", "shop")[i % 2]) for i, rule in enumerate(rules))
    both = replace(KUBERNETES, namespace=alerts, target=Target("kubernetes", f"{targets}/deployment/app"))
    alone = replace(both, namespace=targets)
    strictness = ["auto", "approve", "observe"].index
    together = mode_of(replace(REQUEST, command=both), Policy(modes=spread)).mode
    assert strictness(together) >= strictness(mode_of(replace(REQUEST, command=alone), Policy(modes=spread)).mode)


@pytest.mark.parametrize(
    ("labels", "rule", "mode", "reason"),
    [
        ({}, ModeRule("auto", "http.request"), "auto", "policy_rule"),
        ({"env": "staging"}, ModeRule("auto", "http.request"), "auto", "policy_rule"),
        ({"env": "production"}, ModeRule("auto", "http.request"), "approve", "production_label"),
        ({"environment": "Prod"}, ModeRule("auto", "http.request"), "approve", "production_label"),
        ({"stage": "PRODUCTION"}, ModeRule("auto", "http.request"), "approve", "production_label"),
        ({"env": "production"}, ModeRule("auto", "http.request", match=('env="production"',)), "auto", "policy_rule"),
        ({"env": "production"}, ModeRule("auto", match=('env="production"',)), "approve", "destructive"),
        ({"env": "production"}, ModeRule("observe", "http.request"), "observe", "policy_rule"),
        ({"team": "shop"}, ModeRule("auto", "http.request", match=('team=~"a|b"',)), "approve", "default_mode"),
        ({"team": "b"}, ModeRule("auto", "http.request", match=('team=~"a|b"', 'env!="dev"')), "auto", "policy_rule"),
    ],
)
def test_what_is_labelled_production_is_automatic_only_by_a_rule_that_matches_labels(
    labels: dict[str, str], rule: ModeRule, mode: str, reason: str
) -> None:
    request = replace(REQUEST, command=replace(COMMAND, labels=labels))
    found = mode_of(request, Policy(modes=(rule,)))
    assert (found.mode, found.reason) == (mode, reason)


def test_a_matcher_that_is_none_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="not a matcher: 'production'"):
        ModeRule("auto", match=("production",))


@pytest.mark.parametrize(
    ("priority", "approved", "decision", "reason"),
    [
        ("P0", False, "approve", "four_eyes"),
        ("P0", True, "send", "approved"),
        ("P1", False, "send", "policy_rule"),
    ],
)
def test_where_two_must_agree_nothing_is_automatic(priority: str, approved: bool, decision: str, reason: str) -> None:
    policy = replace(AUTO, four_eyes=("P0",))
    request = replace(REQUEST, command=replace(COMMAND, priority=priority), approved=approved)
    verdict = check(request, policy, [], False, NOW_MS)
    assert (verdict.decision, verdict.reason) == (decision, reason)
    assert policy.people(priority) == (2 if priority == "P0" else 1)


def repairs(*ago_h: int, **changes: object) -> list[Past]:
    same = {"repair": repair_of(COMMAND), **changes}
    return [past(ago * HOUR_MS, incident=10 + ago, **same) for ago in ago_h]  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("situation", "history", "decision", "reason"),
    [
        ("twice today", repairs(1, 2), "send", "policy_rule"),
        ("three times today", repairs(1, 2, 23), "approve", "flapping"),
        ("three times, one of them yesterday", repairs(1, 2, 24), "send", "policy_rule"),
        ("other repairs of the same target", repairs(1, 2, 3, repair="another"), "send", "policy_rule"),
        ("repairs that were refused", repairs(1, 2, 3, status="refused"), "send", "policy_rule"),
        ("repairs that failed now and then", [*repairs(1, 2), *repairs(3, status="failed")], "approve", "flapping"),
    ],
)
def test_a_repair_that_has_to_be_made_again_and_again_is_a_persons(
    situation: str, history: list[Past], decision: str, reason: str
) -> None:
    verdict = check(REQUEST, AUTO, history, False, NOW_MS)
    assert (verdict.decision, verdict.reason) == (decision, reason), situation
    assert check(replace(REQUEST, approved=True), AUTO, history, False, NOW_MS).decision == "send", "a person may"


def test_an_approval_does_not_lift_observe() -> None:
    policy = Policy(modes=(ModeRule("observe"),))
    assert check(replace(REQUEST, approved=True), policy, [], False, NOW_MS).decision == "observe"
