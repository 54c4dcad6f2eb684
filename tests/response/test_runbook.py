"""Runbook files: what is wrong with them, all at once, with file, line and column."""

from __future__ import annotations

import pytest

from engine.core.labels import parse_matcher
from engine.response.runbook import load_runbooks
from engine.response.steps import Actions, Runbook, route

HEAD = """\
runbooks:
  - name: Book
    match: ['alertname="A"']
    priority: P2
    escalation: [{to: on-call}]
    steps:
"""
VERIFIED = "      - {name: check, verify: {}}\n"


def problems(text: str, actions: Actions) -> list[str]:
    runbooks, found = load_runbooks(text, "book.yml", actions=actions)
    assert bool(runbooks) != bool(found)
    return [str(problem).removeprefix("book.yml:") for problem in found]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("      - {name: a, dance: {}}\n", "7:19: error: unknown kind of step 'dance'"),
        ("      - {name: a, notify: {text: hi, sound: x}}\n", "7:38: error: unknown key 'sound' in `notify`"),
        ("      - {name: a, notify: {text: hi, to: {}}}\n", "7:42: error: `to` is a text or a list of texts"),
        ("      - {name: a, notify: {text: hi}, wait: 3s}\n", "7:9: error: a step has exactly one kind"),
        ("      - {name: a, notify: {text: hi}, next: b}\n", "7:45: error: there is no step 'b'"),
        ("      - {name: a, wait: 3s}\n      - {name: b, wait: 3s, next: a}\n", "8:35: error: 'a' does not come later"),
        ("      - {name: a, wait: 3s, next: end}\n      - {name: b, wait: 3s}\n", "8:16: error: step 'b' is never"),
        ("      - {name: a, wait: 3s}\n      - {name: a, wait: 3s}\n", "8:16: error: step 'a' stands in this"),
        ("      - {name: labels, wait: 3s}\n", "7:16: error: 'labels' cannot name a step"),
        ("      - {name: a, wait: soon}\n", "7:25: error: not a duration: 'soon'"),
        ("      - {name: a, wait: 0s}\n", "7:25: error: `wait` is a duration longer than nothing"),
        ("      - {name: a, notify: {text: '{{ x'}}\n", "7:35: error: bad template"),
        ("      - {name: a, notify: {text: '{{ x }}'}}\n", "7:34: error: 'x' is not known here"),
        ("      - {name: a, decide: [{else: end}]}\n      - {name: b, wait: 1s}\n", "8:16: error: step 'b' is never"),
        ("      - {name: a, decide: [{if: 1 +, then: end}, {else: end}]}\n", "7:36: error: bad CEL"),
        ("      - {name: a, decide: [{if: foo(1), then: end}, {else: end}]}\n", "7:33: error: bad CEL: no function"),
        ("      - {name: a, decide: [{if: x > 1, then: end}, {else: end}]}\n", "7:33: error: 'x' is not known here"),
        ("      - {name: a, decide: [{if: 'true', then: end}]}\n", "the last branch of `decide` is `else`"),
        (
            "      - {name: a, investigate: {promql: {query: 'up{job=\"{{ x }}\"}'}}}\n",
            "7:49: error: `query` is taken literally",
        ),
        ("      - {name: a, investigate: {loki: {query: x}}}\n", "unknown key 'loki' in `investigate`"),
        ("      - {name: a, investigate: {http: {host: h, path: x}}}\n", "7:55: error: 'x' is not a path"),
        ("      - {name: a, investigate: {http: {host: h, path: /../x}}}\n", "'/../x' is not a path"),
        ("      - {name: a, investigate: {promql: {query: up}, max_rows: 0}}\n", "is a whole number from 1 to 1000"),
        ("      - {name: a, investigate: {promql: {query: up}, timeout: 2m}}\n", "`timeout` is from 1ms to 60s"),
        (
            "      - {name: a, investigate: {postgres: {database: d, query: 'select $1', params: []}}}\n",
            "7:64: error: the query uses $1, `params` gives no parameter",
        ),
        (
            "      - {name: a, investigate: {postgres: {database: d, query: 'select 1', params: [labels.x]}}}\n",
            "the query uses no parameter, `params` gives $1",
        ),
        (
            "      - {name: a, act: {action: no.such, target: t}}\n" + VERIFIED,
            "7:33: error: there is no action 'no.such'",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, params: {method: GET, path: /, colour: red}}}\n"
            + VERIFIED,
            "http.request has no parameter 'colour'",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, params: {path: /}}}\n" + VERIFIED,
            "7:66: error: http.request needs the parameter 'method'",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, params: {method: BREW, path: /}}}\n" + VERIFIED,
            "7:75: error: method: Invalid enum value 'BREW'",
        ),
        (
            "      - {name: a, act: {action: kubernetes.scale, target: a/deployment/b, params: {ceiling: 5}}}\n"
            + VERIFIED,
            "kubernetes.scale: give either replicas or by",
        ),
        (
            "      - {name: a, act: {action: kubernetes.scale, target: a/daemonset/b, params: {by: 1, ceiling: 5}}}\n"
            + VERIFIED,
            "7:59: error: a target of kubernetes.scale is NAMESPACE/KIND/NAME of kind deployment or statefulset",
        ),
        (
            "      - {name: a, act: {action: kubernetes.delete_pod, target: 'a/b/pod/{{ labels.pod }}'}}\n" + VERIFIED,
            "a target of kubernetes.delete_pod is NAMESPACE/KIND/NAME of kind pod",
        ),
        (
            "      - {name: a, act: {action: kubernetes.delete_pod, target: just-a-name}}\n" + VERIFIED,
            "a target of kubernetes.delete_pod is NAMESPACE/KIND/NAME of kind pod",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, params: {method: GET, path: '/{{ alert }}'}}}\n"
            + VERIFIED,
            "what is filled into `path` has to be quoted",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, mode: yolo, params: {method: GET, path: /}}}\n"
            + VERIFIED,
            "`mode` is one of observe, approve, auto",
        ),
        (
            "      - {name: a, act: {action: http.request, target: t, params: {method: GET, path: /}}}\n",
            "ends after an action without a `verify` or an `escalate`",
        ),
        (
            "      - {name: a, decide: [{if: 'true', then: c}, {else: b}]}\n"
            "      - {name: b, investigate: {promql: {query: up}}}\n"
            "      - {name: c, notify: {text: '{{ b.rows }}'}}\n",
            "9:34: error: 'b' is not gathered on every way to this step",
        ),
    ],
)
def test_a_bad_step_is_named_with_its_place(steps: str, problem: str, actions: Actions) -> None:
    found = problems(HEAD + steps, actions)
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    "target",
    ["a/pod/b", "'{{ labels.namespace }}/pod/{{ labels.pod }}'", "'a/{{ labels.kind }}/b'", "'{{ labels.pod }}'"],
)
def test_a_target_on_a_cluster_may_be_filled_in(target: str, actions: Actions) -> None:
    step = f"      - {{name: a, act: {{action: kubernetes.delete_pod, target: {target}}}}}\n"
    assert load_runbooks(HEAD + step + VERIFIED, "book.yml", actions=actions)[1] == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("    priority: P2\n", "    priority: P7\n", "4:15: error: a priority is P0, P1, P2 or P3"),
        ("    priority: P2\n", "    priority: {critical: P0}\n", "needs a `default`"),
        ("    priority: P2\n", "    priority: nonsense == 1\n", "'nonsense' is not known here"),
        ("    priority: P2\n", "    prioritee: P2\n", "4:5: error: unknown key 'prioritee' in a runbook"),
        ("['alertname=\"A\"']", "['alertname \"A\"']", "3:13: error: not a matcher"),
        ("['alertname=\"A\"']", "['alertname=~\"(\"']", "bad regular expression"),
        ("['alertname=\"A\"']", "[]", "`match` needs a matcher"),
        ("[{to: on-call}]", "[]", "`escalation` is a list with at least one level"),
        ("[{to: on-call}]", "[{to: a}, {to: b}]", "a later level of `escalation` says `after`"),
        ("    priority: P2\n", "    priority: P2\n    limits: {cooldown: x}\n", "5:24: error: not a duration"),
        ("    priority: P2\n", "    priority: P2\n    limits: {budget_per_hour: 0}\n", "is a whole number from 1"),
        ("    priority: P2\n", "    priority: P2\n    group_by: [a b]\n", "'a b' is not the name of a label"),
        ("    priority: P2\n", "    priority: P2\n    summary: '{{ nobody }}'\n", "'nobody' is not known here"),
        ("runbooks:", "runbook:", "1:1: error: a runbook file is a mapping with a list under `runbooks`"),
    ],
)
def test_a_bad_head_is_named_with_its_place(old: str, new: str, problem: str, actions: Actions) -> None:
    found = problems((HEAD + "      - {name: a, wait: 3s}\n").replace(old, new), actions)
    assert any(problem in one for one in found), found


def test_all_problems_come_at_once(actions: Actions) -> None:
    text = HEAD.replace("P2", "P9") + "      - {name: a, wait: x}\n      - {name: b, notify: {}, next: nowhere}\n"
    found = problems(text, actions)
    assert [one.split(":")[0] for one in found] == ["4", "7", "8", "8"]


def test_text_that_is_no_yaml_is_a_problem_and_no_exception(actions: Actions) -> None:
    assert problems("runbooks: [", actions)


@pytest.mark.parametrize(
    ("text", "op", "value"),
    [
        ('a="b"', "=", "b"),
        ("a=b", "=", "b"),
        ('a != "b c"', "!=", "b c"),
        ('a=~"x|y"', "=~", "x|y"),
        (r'a=~"\\d+"', "=~", r"\d+"),
        (r'a="say \"hi\""', "=", 'say "hi"'),
        ('a!~".*"', "!~", ".*"),
    ],
)
def test_matchers_are_written_as_in_alertmanager(text: str, op: str, value: str) -> None:
    matcher = parse_matcher(text)
    assert (matcher.name, matcher.op, matcher.value) == ("a", op, value)


@pytest.mark.parametrize(
    ("alertname", "name"),
    [
        ("PolicyViolationSpike", "PolicyViolationSpike"),
        ("ConnectionOverload", "ConnectionOverloadByApi"),
        ("SignatureFailures", "SignatureFailuresByApi"),
    ],
)
def test_the_first_runbook_that_matches_takes_the_alert(alertname: str, name: str, runbooks: list[Runbook]) -> None:
    found = route(runbooks, {"alertname": alertname, "namespace": "aureus"})
    assert found is not None
    assert found.name == name
    assert route(runbooks, {"alertname": alertname, "namespace": "other"}) is None
