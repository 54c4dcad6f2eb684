"""Rule files: what is accepted, and how precisely the rest is refused."""

from __future__ import annotations

import pytest

from engine import promql
from engine.core.rules import parse_rules
from tests.core.builders import groups

HEAD = "groups:\n  - name: g\n    rules:\n"

BROKEN = {
    "not YAML": ("groups: [", "1:10", "not valid YAML"),
    "no groups": ("rules: []\n", "1:1", "a list under `groups`"),
    "unknown key in a rule": (
        HEAD + "      - alert: A\n        expr: x\n        forr: 5m\n",
        "6:9",
        "unknown key 'forr'",
    ),
    "bad duration": (HEAD + "      - alert: A\n        expr: x\n        for: 5 minutes\n", "6:14", "not a duration"),
    "no expression": (HEAD + "      - alert: A\n", "4:9", "needs an expression"),
    "unknown function": (HEAD + "      - alert: A\n        expr: nope(x)\n", "5:15", "nope"),
    "error inside a block": (
        HEAD + "      - alert: A\n        expr: |\n          x > 1\n            and nope(x)\n",
        "7:17",
        "nope",
    ),
    "key twice": (HEAD + "      - alert: A\n        expr: x\n        expr: y\n", "6:9", "stands here twice"),
    "bad label name": (
        HEAD + "      - alert: A\n        expr: x\n        labels: {a-b: c}\n",
        "6:18",
        "not a valid label",
    ),
    "recording and alerting": (HEAD + "      - record: a:b\n        alert: A\n        expr: x\n", "4:9", "either"),
    "expression in the wrong place": (HEAD + "      - record: sum(x{})\n        expr: x\n", "4:17", "metric name"),
    "recording rule with `for`": (HEAD + "      - record: a:b\n        expr: x\n        for: 5m\n", "6:9", "'for'"),
    "group twice": (
        "groups:\n  - {name: g, rules: []}\n  - {name: g, rules: []}\n",
        "3:12",
        "stands in this file twice",
    ),
    "bad template": (HEAD + "      - alert: A\n        expr: x\n        annotations: {a: '{{ $labels.x'}\n", "6:2", ""),
}


@pytest.mark.parametrize(("text", "place", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_with_its_place(text, place, message):
    found, problems = parse_rules(text, "f.yml", promql.compile)
    assert found == []
    assert any(str(p).startswith(f"f.yml:{place}") and message in p.message for p in problems), problems


def test_all_problems_of_a_file_come_at_once():
    text = HEAD + "      - alert: A\n        expr: nope(x)\n        for: soon\n      - alert: B\n        labels: 3\n"
    _, problems = parse_rules(text, "f.yml", promql.compile)
    assert [(p.line, p.column) for p in problems] == [(5, 15), (6, 14), (7, 9), (8, 17)]


def test_a_rule_keeps_its_key_while_its_content_is_the_same():
    before = groups("groups: [{name: g, rules: [{alert: A, expr: x > 1}, {alert: B, expr: y}]}]")[0].rules[1]
    moved = groups("groups: [{name: g, rules: [{alert: B, expr: y}]}]")[0].rules[0]
    changed = groups("groups: [{name: g, rules: [{alert: B, expr: y > 2}]}]")[0].rules[0]
    assert before.key == moved.key != changed.key


def test_labels_of_a_recording_rule_are_text_not_templates():
    (group,) = groups("groups: [{name: g, rules: [{record: 'a:b', expr: x, labels: {team: '{{ $value }}'}}]}]")
    assert (group.rules[0].name, group.rules[0].labels) == ("a:b", {"team": "{{ $value }}"})


def test_labels_of_the_group_reach_its_rules():
    (group,) = groups("groups: [{name: g, labels: {team: sre}, rules: [{alert: A, expr: x}]}]")
    assert group.rules[0].labels["team"].expand({}, 0.0, {}) == "sre"
