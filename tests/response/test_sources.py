"""What `investigate` may ask, and what is refused when the runbook is loaded: parsed, placed, bound."""

from __future__ import annotations

import pytest

from engine.loading import check_query
from engine.response.incident import open_incident
from engine.response.model import (
    Context,
    HttpGet,
    Investigate,
    KubernetesRead,
    LogqlQuery,
    Note,
    PostgresQuery,
    PromqlQuery,
    Query,
)
from engine.response.runbook import load_runbooks
from engine.response.steps import Actions
from tests.response.conftest import START_MS, alert
from tests.response.test_runbook import HEAD

EVIL = '"} or vector(1) #'


def loaded(source: str, actions: Actions, rest: str = "") -> tuple[list[object], list[str]]:
    step = f"      - {{name: a, investigate: {{{source}}}}}\n{rest}"
    runbooks, problems = load_runbooks(HEAD + step, "book.yml", actions=actions, check_query=check_query)
    return list(runbooks), [str(one).removeprefix("book.yml:") for one in problems]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        (
            "promql: {query: 'up{job=$service}', params: {service: labels.service}}",
            PromqlQuery(r'up{job="\"} or vector(1) #"}'),
        ),
        (
            "logql: {query: '{app=$service} |= \"x\"', params: {service: labels.service}, since: 15m, limit: 7}",
            LogqlQuery(r'{app="\"} or vector(1) #"} |= "x"', True, 900_000, 7),
        ),
        (
            "logql: {query: 'sum(rate({app=$service}[5m]))', params: {service: labels.service}}",
            LogqlQuery(r'sum(rate({app="\"} or vector(1) #"}[5m]))', False, 3_600_000, 100),
        ),
        (
            "kubernetes: {read: logs, target: '{{ labels.namespace }}/deployment/app', tail: 20}",
            KubernetesRead("logs", "aureus/deployment/app", 20),
        ),
        (
            "http: {host: h, path: /users/$user, params: {user: labels.service}}",
            HttpGet("h", "/users/%22%7D%20or%20vector%281%29%20%23"),
        ),
        ("http: {host: {cel: labels.namespace}, path: /health}", HttpGet("aureus", "/health")),
        (
            "postgres: {database: {cel: \"labels.namespace == 'aureus' ? 'main' : 'other'\"}, query: select 1}",
            PostgresQuery("main", "select 1", []),
        ),
    ],
)
def test_a_question_carries_the_alerts_labels_as_values(source: str, asked: Query, actions: Actions) -> None:
    runbooks, problems = loaded(source, actions)
    assert problems == []
    firing = alert("firing", START_MS, {"alertname": "A", "service": EVIL, "namespace": "aureus"})
    decision = open_incident(1, firing, Context(START_MS, runbooks[0], actions))  # type: ignore[arg-type]  # a runbook
    assert [one.query for one in decision.effects if isinstance(one, Investigate)] == [asked]


@pytest.mark.parametrize("labels", [{"alertname": "A"}, {"alertname": "A", "service": ""}])
def test_without_the_label_nothing_is_asked_and_people_are_told(labels: dict[str, str], actions: Actions) -> None:
    runbooks, _ = loaded("promql: {query: 'up{job=$service}', params: {service: labels.service}}", actions)
    decision = open_incident(1, alert("firing", START_MS, labels), Context(START_MS, runbooks[0], actions))  # type: ignore[arg-type]  # a runbook
    assert not [one for one in decision.effects if isinstance(one, Investigate)]
    assert decision.state.escalated_reason == "investigation_failed"
    assert any("service" in one.text for one in decision.effects if isinstance(one, Note))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("labels.service", "`labels.service`: 'service'"),
        ("alert.count", "`alert.count` names no host: it gives 1"),
        ("labels.empty", "`labels.empty` names no host: it gives ''"),
    ],
)
def test_what_is_no_name_is_not_asked_and_the_reason_is_kept(name: str, why: str, actions: Actions) -> None:
    runbooks, _ = loaded(f"http: {{host: {{cel: 'has(labels.x) ? \"x\" : {name}'}}, path: /}}", actions)
    firing = alert("firing", START_MS, {"alertname": "A", "empty": ""})
    decision = open_incident(1, firing, Context(START_MS, runbooks[0], actions))  # type: ignore[arg-type]  # a runbook
    assert not [one for one in decision.effects if isinstance(one, Investigate)]
    [failed] = [one.text for one in decision.effects if isinstance(one, Note) and one.kind == "evidence.failed"]
    assert why in failed.replace('has(labels.x) ? "x" : ', "")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("http: {host: {cel: other}, path: /}", "7:46: error: 'other' is not known here"),
        ("http: {host: {cel: alert.count}, path: /}", "7:52: error: `alert.count` is a number, not a text"),
        ("http: {host: {name: labels.a}, path: /}", "7:47: error: unknown key 'name' in `host`; known: cel"),
        ("http: {host: {cel: labels.}, path: /}", "error: bad CEL"),
        ("http: {host: '{{ labels.a }}', path: /}", "7:46: error: `host` is taken literally, so it holds no template"),
        ("postgres: {database: {cel: size(labels)}, query: x}", "error: `size(labels)` is a number, not a text"),
        ("postgres: {query: x}", "error: `database` is a text that is not empty"),
        ("promql: {query: 'up{job=~$s}', params: {s: labels.s}}", "7:58: error: $s stands only where a label's value"),
        ("promql: {query: 'up{job=$s}'}", "7:49: error: the query uses $s, `params` gives no parameter"),
        ("promql: {query: up, params: {s: labels.s}}", "7:49: error: the query uses no parameter, `params` gives $s"),
        ("promql: {query: up, params: [labels.s]}", "7:61: error: `params` is a mapping of names to CEL expressions"),
        ("promql: {query: 'up{job=$s}', params: {s: 1 +}}", "7:78: error: bad CEL"),
        ("promql: {query: 'up{job=$s}', params: {s: other}}", "7:75: error: 'other' is not known here"),
        ("promql: {query: 'sum(up'}", "7:53: error: "),
        ("promql: {query: 'up[5m]'}", "7:50: error: a rule must be a vector or a scalar, this is a range vector"),
        ("logql: {query: '{a=\"b\"} |= '}", "error: syntax error"),
        ("logql: {query: 'rate({a=\"b\"}[5m)'}", "error: syntax error"),
        ("logql: {query: '{a=~\".*\"}'}", "error: queries require at least one"),
        (
            "logql: {query: 'rate({a=\"b\"}[1m])', since: 5m}",
            "`since` is for lines; how far back a metric",
        ),
        ("logql: {query: '{a=\"b\"}', since: 0s}", "`since` is a duration longer than nothing"),
        ("logql: {query: '{a=\"b\"}', limit: 5000}", "is a whole number from 1 to 1000"),
        ("kubernetes: {read: secrets, target: a/pod/b}", "`read` is one of pods, status, logs, events, revisions"),
        ("kubernetes: {read: pods, target: a/b}", "what has pods is NAMESPACE/KIND/NAME of kind deployment or"),
        ("kubernetes: {read: pods, target: a/secret/b}", "what has pods is NAMESPACE/KIND/NAME of kind deployment or"),
        ("kubernetes: {read: status, target: a/pod/b}", "what has status is NAMESPACE/KIND/NAME of kind deployment or"),
        ("kubernetes: {read: pods, target: '{{ who }}'}", "'who' is not known here"),
        ("kubernetes: {read: pods, target: a/pod/b, tail: 5}", "`tail` is how many lines of each log"),
        ("http: {host: h, path: /a/$x}", "the path uses $x, `params` gives no parameter"),
        ("promql: {query: up}, logql: {query: x}", "`investigate` asks exactly one of postgres, promql, logql, kuber"),
    ],
)
def test_a_bad_question_is_named_with_its_place(source: str, problem: str, actions: Actions) -> None:
    _, problems = loaded(source, actions)
    assert any(problem in one for one in problems), problems


def test_a_mistake_is_placed_within_a_query_of_several_lines(actions: Actions) -> None:
    text = HEAD + (
        "      - name: a\n        investigate:\n          promql:\n            query: |\n"
        "              sum(\n                rate(up{job=$service})\n              )\n"
        "            params: {service: labels.service}\n"
    )
    _, problems = load_runbooks(text, "book.yml", actions=actions, check_query=check_query)
    assert [(one.line, one.column) for one in problems] == [(12, 1 + len("                "))]
