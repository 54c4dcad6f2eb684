"""What is refused, with which words and at which place."""

from __future__ import annotations

import pytest

from engine import logql
from engine.core.expression import ExpressionError


@pytest.mark.parametrize(
    ("query", "place", "message"),
    [
        ("", (1, 1), "empty"),
        ("rate({app='a'}[1m])", (1, 11), "unexpected '"),
        ('rate({app="a"})', (1, 15), "unexpected ), expecting ["),
        ('rate({app="a"}[1m]', (1, 19), "unexpected end of the expression"),
        ('sum(\n  rate({app="a"}[5x]))', (2, 18), "unexpected 5"),
        ('{app="a"} |= "x"', (1, 1), "a rule needs a metric query"),
        ("sum({app=`a`})", (1, 5), "unexpected {"),
        ("up == 0", (1, 1), "unexpected up"),
        ('rate({app=~"("}[1m])', (1, 6), "bad regular expression"),
        ('rate({app=~".*"}[1m])', (1, 6), "at least one regexp or equality matcher"),
        ("rate({}[1m])", (1, 6), "at least one regexp or equality matcher"),
        ('rate({app="a"} |~ "(" [1m])', (1, 16), "error parsing regexp"),
        ('rate({app="a"} |~ ip("10.0.0.1") [1m])', (1, 16), "ip: invalid operation"),
        ('rate({app="a"} |= ip("nope") [1m])', (1, 16), "ip: invalid pattern"),
        ('rate({app="a"} |> "<verb>" [1m])', (1, 16), "named captures are not allowed"),
        ('rate({app="a"} | json x="a[" [1m])', (1, 18), "cannot parse expression"),
        ('rate({app="a"} | regexp "x" [1m])', (1, 18), "at least one named capture"),
        ('rate({app="a"} | pattern "x" [1m])', (1, 18), "at least one capture"),
        ('rate({app="a"} | logfmt --loose [1m])', (1, 18), "no flag --loose"),
        ('rate({app="a"} | json | n > "5" [1m])', (1, 27), "compares numbers"),
        ('rate({app="a"} | json | n =~ 5 [1m])', (1, 27), "regular expression in quotes"),
        ('rate({app="a"} | line_format "{{.x" [1m])', (1, 30), "unclosed action"),
        ('rate({app="a"} | line_format "{{nosuch .x}}" [1m])', (1, 30), "not defined"),
        ('rate({app="a"} | label_format a=`{{` [1m])', (1, 18), "invalid template"),
        ('rate({app="a"} | label_format a=b, a=c [1m])', (1, 18), "multiple label name"),
        ('rate({app="a"} | label_format __error__=b [1m])', (1, 18), "cannot be formatted"),
        ('variants(rate({app="a"}[1m])) of ({app="a"}[1m])', (1, 1), "variants is not supported"),
        ('rate({app="a"} | xml [1m])', (1, 18), "xml is not supported"),
        ('1 or rate({app="a"}[1m])', (1, 3), "unexpected literal for left leg of logical/set binary operation"),
        ('rate({app="a"} | drop [1m])', (1, 23), "expecting IDENTIFIER"),
        ('count_over_time({app="a"} | unwrap x [1m])', (1, 1), "invalid aggregation count_over_time with unwrap"),
        ('avg_over_time({app="a"}[1m])', (1, 1), "invalid aggregation avg_over_time without unwrap"),
        ('rate({app="a"}[1m]) by (x)', (1, 21), "grouping not allowed for rate"),
        ('quantile_over_time({app="a"} | unwrap x [1m])', (1, 1), "parameter required"),
        ('topk(rate({app="a"}[1m]))', (1, 1), "parameter required"),
        ('topk(1.5, rate({app="a"}[1m]))', (1, 1), "invalid parameter"),
        ('sum(2, rate({app="a"}[1m]))', (1, 1), "unsupported parameter"),
        ('sum by (a) (rate({app="a"}[1m])) by (b)', (1, 34), "grouped twice"),
        ('sort(rate({app="a"}[1m])) by (a)', (1, 27), "grouping not allowed for sort"),
        ('rate({app="a"}[1m]) and 1', (1, 21), "unexpected literal for right leg of logical/set binary operation"),
        ('rate({app="a"}[1m]) > on (a) 1', (1, 21), "one side is a number"),
        ('rate({app="a"}[1m] offset -5m)', (1, 20), "looks into the future"),
        ('rate({app="a"} |= "\\q" [1m])', (1, 19), "unknown escape"),
        (
            'label_replace(rate({app="a"}[1m]), "a", "b", "c", "(")',
            (1, 1),
            "invalid regex in label_replace: error parsing regexp",
        ),
        ("vector(rate({app=`a`}[1m]))", (1, 8), "expecting NUMBER"),
    ],
)
def test_refusals_name_what_is_wrong_and_where(query: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        logql.compile(query)
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == place
