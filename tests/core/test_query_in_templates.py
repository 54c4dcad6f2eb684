"""`query` in the templates of an alert: its data is kept, and it sees the time of the evaluation."""

from __future__ import annotations

from engine import promql
from engine.core.group import StepConfig
from engine.core.messages import RuleInput
from engine.core.rules import parse_rules
from engine.core.step import Shard
from tests.core.builders import batch, groups

TICKS_ONLY = StepConfig(eager_per_s=0)


def summary(template: str, points: list, until_ms: int = 1) -> str:
    """What the annotation of the first alert says."""
    rules = groups(
        f"groups: [{{name: g, interval: 10s, rules: [{{alert: A, expr: x > 5, annotations: {{s: '{template}'}}}}]}}]"
    )
    shard = Shard(rules, TICKS_ONLY)
    shard.step(RuleInput(0, batch("s", 1, 0)))
    out = shard.step(RuleInput(0, batch("s", 2, until_ms, points))).transitions
    return out[0].annotations["s"]


POINTS = [("x{job=a}", 0, 9.0), ("disk{job=a}", 0, 70.0), ("disk{job=b}", 0, 20.0)]


def test_a_query_reads_what_no_rule_reads_otherwise():
    text = '{{ range query "sort(disk)" }}{{ .Labels.job }}={{ .Value }} {{ end }}'
    assert summary(text, POINTS) == "b=20 a=70 "


def test_a_query_with_the_alerts_labels_in_it_is_kept_ahead_for_all_of_them():
    text = "{{ with printf \"disk{job=''%s''}\" $labels.job | query }}{{ . | first | value }}{{ end }}"
    assert summary(text, POINTS) == "70"


def test_a_query_looks_at_the_time_of_the_evaluation_not_later():
    later = [*POINTS, ("disk{job=a}", 5_000, 99.0)]
    assert summary('{{ query "disk{job=\\"a\\"}" | first | value }}', later, until_ms=6_000) == "70"


def test_what_cannot_be_answered_says_so_and_the_alert_comes_anyway():
    text = '{{ $q := "disk" }}{{ query (print $q "_free") }}'
    assert "no window holds disk_free" in summary(text, POINTS)


def test_a_query_that_is_wrong_or_cannot_be_told_is_a_warning_at_its_place():
    text = """
groups:
  - name: g
    rules:
      - alert: A
        expr: x
        annotations:
          wrong: '{{ query "nope(x)" }}'
          hidden: '{{ $q := "x" }}{{ query $q }}'
"""
    found, problems = parse_rules(text, "f.yml", promql.compile)
    assert len(found) == 1
    assert [(p.severity, p.line) for p in problems] == [("warning", 8), ("warning", 9)]
