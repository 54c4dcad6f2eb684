"""What an alerting expression measures and compares, seen from its text."""

from __future__ import annotations

import pytest

from engine.promql.threshold import Comparison, comparison_of


@pytest.mark.parametrize(
    ("text", "query", "op", "threshold"),
    [
        ("up == 0", "up", "==", 0),
        ("rate(x[5m]) > 0.05", "rate(x[5m])", ">", 0.05),
        ("sum by (job) (rate(e[5m])) / sum by (job) (rate(r[5m]))\n  >= 5e-2", None, ">=", 0.05),
        ("free < -1.5", "free", "<", -1.5),
        ('x{path="/a > 1", q=~"a|b"} != 3 # not > 4', 'x{path="/a > 1", q=~"a|b"}', "!=", 3),
        ("a > 1 and on (job) b > 2", "a", ">", 1),
        ("a > 1 unless b", "a", ">", 1),
        ("max_over_time((x > 3)[5m:1m]) > 7", "max_over_time((x > 3)[5m:1m])", ">", 7),
        ("order > 1", "order", ">", 1),  # a metric that begins as an operator does
        ("x > 0x10", "x", ">", 16),
        ("x > 1 * 2", "x > 1 * 2", "", None),  # no number by itself
        ("a > b", "a > b", "", None),
        ("1 < x", "1 < x", "", None),
        ("absent(up)", "absent(up)", "", None),
        ("x > bool 1", "x > bool 1", "", None),
        ("(x > 1)", "(x > 1)", "", None),
        ("x > 1 > 2", "x > 1 > 2", "", None),
    ],
)
def test_the_comparison_is_seen_where_there_is_one_with_a_number(
    text: str, query: str | None, op: str, threshold: float | None
) -> None:
    wanted = query if query is not None else text.partition("\n")[0]
    assert comparison_of(text) == Comparison(wanted, op, threshold)
