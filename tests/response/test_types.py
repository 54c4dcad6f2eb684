"""A condition that can never be right is refused at load; one that may be right with some data is not."""

from __future__ import annotations

import pytest

from engine.response.runbook import load_runbooks
from engine.response.steps import Actions
from tests.response.test_runbook import HEAD

GATHERED = """\
      - {name: cpu, investigate: {promql: {query: up}}}
      - {name: log, investigate: {logql: {query: '{a="b"}'}}}
      - {name: rate, investigate: {logql: {query: 'rate({a="b"}[1m])'}}}
      - {name: pods, investigate: {kubernetes: {read: pods, target: a/deployment/b}}}
      - {name: state, investigate: {kubernetes: {read: status, target: a/deployment/b}}}
      - {name: disk, investigate: {kubernetes: {read: status, target: a/persistentvolumeclaim/b}}}
      - {name: sql, investigate: {postgres: {database: d, query: select 1}}}
      - {name: web, investigate: {http: {host: h, path: /}}}
      - name: done
        act: {action: http.request, target: t, params: {method: POST, path: /, check: {path: /, expect: status == 200}}}
"""
END = "      - {name: check, verify: {}}\n"


def said(condition: str, actions: Actions) -> list[str]:
    branches = f"          - if: >-\n              {condition}\n            then: check\n          - else: check\n"
    step = f"      - name: choose\n        decide:\n{branches}"
    _, problems = load_runbooks(HEAD + GATHERED + step + END, "book.yml", actions=actions)
    assert all((one.line, one.column) == (19, 17) for one in problems)
    return [one.message for one in problems]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ('size(cpu.rows) > "3"', "gives an operator a type"),
        ("labels.code > 3", "gives an operator a type"),
        ("labels.code == 3", "never equal"),
        ("3 != labels.code", "never equal"),
        ("alert.value > 3.0", "gives an operator a type"),
        ("alert.value == 3.0", "never equal"),
        ("alert.count > '3'", "gives an operator a type"),
        ("size(cpu.rows) > 0 && cpu.rows[0].value > 'high'", "gives an operator a type"),  # only with a row
        ("size(cpu.rows) > 0 && cpu.rows[0].value == 'high'", "never equal"),
        ("cpu.rows.exists(o, o.value * 2 > 3.0)", "gives an operator a type"),  # a double times an integer
        ("cpu.rows.exists(o, o.labels.pod > 1)", "gives an operator a type"),
        ("rate.rows.exists(o, o.value > 'x')", "gives an operator a type"),
        ("log.rows.exists(o, o.line > 1)", "gives an operator a type"),
        ("log.rows.exists(o, o.value > 1.0)", "uses the field 'value', which is not there"),
        ("pods.rows.exists(p, p.restart > 3)", "uses the field 'restart', which is not there"),
        ("pods.rows.exists(p, p.ready == 'True')", "never equal"),
        ("state.rows.exists(p, p.phase == 'Bound')", "uses the field 'phase', which is not there"),
        ("disk.rows.exists(p, p.capacity_bytes < '1Gi')", "gives an operator a type"),
        ("cpu.value > 3.0", "uses the field 'value', which is not there"),
        ("alert.naem == 'x'", "uses the field 'naem', which is not there"),
        ("done.status == 3", "never equal"),
        ("done.rows == []", "uses the field 'rows', which is not there"),
        ("size(sql.rows) > '1'", "gives an operator a type"),
        ("sql.rows.exists(r, r.n > 0 ? r.n.startsWith('a') : false)", "gives"),  # no value is both
        ("labels.code.startsWith(3)", "gives startsWith() a type that it does not take"),
        ("size(3) > 1", "gives size() a type that it does not take"),
        ("labels.code", "is a text, not true or false"),
        ("size(cpu.rows)", "is a number, not true or false"),
        ("cpu.rows", "is a list, not true or false"),
        ("labels.code == 'a' ? labels.code : 'b'", "is a text, not true or false"),
        ("labels.code == 'a' && labels.code > 3", "gives an operator a type"),  # only if the label is that text
        ("cpu.rows.exists(o, o.value > 100.0 && o.labels.pod > 3)", "gives an operator a type"),  # only for large ones
    ],
)
def test_what_can_never_be_right_is_refused_where_it_stands(condition: str, why: str, actions: Actions) -> None:
    found = said(condition, actions)
    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    "condition",
    [
        "size(cpu.rows) > 3",
        "cpu.rows[0].value > 1",  # numbers of any type have an order
        "cpu.rows[0].value == 1",
        "double(alert.value) > 3.0",
        "int(labels.code) > 3",
        "has(labels.code) && labels.code == '503'",
        "cpu.rows.exists(o, o.value != null && o.value > 1.0)",
        "cpu.rows.exists(o, rate.rows.exists(c, c.labels.channel == o.labels.channel && c.value * 2.0 < o.value))",
        "pods.rows.exists(p, p.last_reason == 'OOMKilled' || p.restarts > 3)",
        "state.rows[0].ready < state.rows[0].replicas && !state.rows[0].paused",
        "disk.rows[0].capacity_bytes < disk.rows[0].requested_bytes",
        "log.rows.exists(l, l.line.contains('OutOfMemory') && l.labels.pod != '')",
        "sql.rows.exists(r, r.name.startsWith('a') && r.total > 3 && r.share > 0.5 && r.done)",
        "sql.rows[0].name == 'a'",
        "sql.rows[0].a * 100 >= sql.rows[0].total * 60",
        "web.status == 200 && web.body.deep.list[3].x > 3",  # nobody knows what a body looks like
        "done.status == 'failed' && done.reason != 'x' && done.detail.status > 500",
        "incident.priority == 'P0' && alert.fired_ms - incident.opened_ms > 1000",
        "labels['a-b'] == 'x' || 'x' in labels",
        "1 / size(cpu.rows) == 1",
        "alert.annotations.summary.matches('^a')",
    ],
)
def test_what_may_be_right_is_taken(condition: str, actions: Actions) -> None:
    assert said(condition, actions) == []


@pytest.mark.parametrize(
    ("step", "why"),
    [
        ("verify: {expect: labels.code}", "is a text, not true or false"),
        ("investigate: {promql: {query: 'up{job=$j}', params: {j: alert.fired_ms}}}", "is a number, not a text"),
        ("investigate: {http: {host: h, path: /$j, params: {j: size(labels)}}}", "is a number, not a text"),
        ("investigate: {postgres: {database: d, query: 'select $1', params: [labels.a + 1]}}", "gives an operator"),
        ("act: {action: http.request, target: t, subject: alert.value + 1, params: {method: GET, path: /}}", "gives"),
    ],
)
def test_every_condition_of_a_step_is_looked_at(step: str, why: str, actions: Actions) -> None:
    _, problems = load_runbooks(HEAD + f"      - {{name: a, {step}}}\n{END}", "book.yml", actions=actions)
    assert [one.line for one in problems] == [7]
    assert why in problems[0].message


def test_a_priority_is_a_text(actions: Actions) -> None:
    text = HEAD.replace("P2", "size(labels)") + END
    _, problems = load_runbooks(text, "book.yml", actions=actions)
    assert [str(one) for one in problems] == ["book.yml:4:15: error: `size(labels)` is a number, not a text"]
