"""Where LogQL is not what one would guess: each row is something Loki does, looked up and kept."""

from __future__ import annotations

import math

import pytest

from engine import logql
from engine.core.expression import EvaluationError, ExpressionError
from tests.logql.lines import STREAM, ask, entry, labels_of

JSON = [
    entry(10, '{"user":"u","took":"5","size":"1KB"}'),
    entry(20, '{"user":"v","took":"7","size":"2KB"}'),
    entry(30, "broken"),
]


@pytest.mark.parametrize(
    ("query", "result"),
    [
        # a sum that asks for no label runs no parser, so nothing can fail
        ('sum(count_over_time({app="a"} | json [1m]))', {"": 3}),
        ('sum(count_over_time({app="a"} | json | logfmt | unpack [1m]))', {"": 3}),
        # a query that asks for __error__ gets the failed lines
        ('sum by (__error__) (count_over_time({app="a"} | json [1m]))', {"": 2, "__error__=JSONParserErr": 1}),
        ('sum(count_over_time({app="a"} | json | __error__!="" [1m]))', {"": 1}),
        ('sum by (app) (count_over_time({app="a"} | json | __error__="JSONParserErr" [1m]))', {"": 1}),
        # string filters see an empty label where there is none; number filters leave such lines out
        ('sum(count_over_time({app="a"} | json | user="" | __error__!="" [1m]))', {"": 1}),
        ('sum by (user) (count_over_time({app="a"} | json | took > 5 [1m]))', {"user=v": 1}),
        # lines without the label that is unwrapped do not count, failed ones among them
        ('sum(sum_over_time({app="a"} | json | unwrap took [1m]))', {"": 12}),
        ('sum(sum_over_time({app="a"} | json | unwrap bytes(size) [1m]))', {"": 3000}),
        ('sum by (user) (rate({app="a"} | json | unwrap took | took > 5 [1m]))', {"user=v": 7 / 60}),
        # keywords in any case; comments
        ('SUM BY (user) (COUNT_OVER_TIME({app="a"} | JSON | user=~"u|v" [1m])) # by user', {"user=u": 1, "user=v": 1}),
        # dividing by zero is no infinity
        ('sum(count_over_time({app="a"}[1m])) / 0', {"": math.nan}),
        ("1 / 0", {"": math.nan}),
        ("1 > 2", {"": 0}),
        ("(1 + 1) * sum(count_over_time({app=`a`}[1m]))", {"": 6}),
        # templates
        (
            'sum by (who) (count_over_time({app="a"} |= "user" | json | label_format who="{{.user}}!" [1m]))',
            {"who=u!": 1, "who=v!": 1},
        ),
        ('sum(count_over_time({app="a"} | json | line_format "{{.user}}" |= "u" [1m]))', {"": 1}),
        ('sum(bytes_over_time({app="a"} |= "user" | json | line_format "{{.user}}" [1m]))', {"": 2}),
    ],
)
def test_metric_queries(query: str, result: dict[str, float]) -> None:
    assert ask(query, JSON, strict=True) == pytest.approx(result, nan_ok=True)


@pytest.mark.parametrize(
    "query",
    [
        'count_over_time({app="a"} | json [1m])',
        'count_over_time({app="a"} | json | __error__!="" [1m])',
        'sum by (user) (count_over_time({app="a"} | json [1m]))',
        'sum(sum_over_time({app="a"} | json | unwrap user [1m]))',
    ],
)
def test_a_line_that_failed_fails_the_query(query: str) -> None:
    with pytest.raises(EvaluationError, match="pipeline error"):
        ask(query, JSON, strict=True)


@pytest.mark.parametrize(
    ("pipeline", "line", "labels"),
    [
        # what follows the object is not looked at, and a line that is cut off gives what stands before the cut
        ("| json", '{"a":1} and more', {"a": "1"}),
        ("| json", '{"a":"tab\there"}', {"a": "tab\there"}),
        ("| json", '{"a":1,}', {"a": "1"}),
        ("| json | drop __error__, __error_details__", '{"a":1,"b":{"c":2,"d"', {"a": "1", "b_c": "2"}),
        ('| json x="a"', "", {}),
        ('| json x="[1]"', '["p","q"]', {"x": "q"}),
        ('| json x="a"', '{"a":null}', {"x": ""}),
        ("| unpack", "", {}),
        # text that was no UTF-8 is no value
        ("| json", '{"a":"\ufffd","b":"x"}', {"a": "", "b": "x"}),
        ("| logfmt", "a=\ufffd b=x", {"a": "", "b": "x"}),
        # a failed line keeps its first error, and a later parser still runs
        ("| json | logfmt | drop __error__, __error_details__", "a=1", {"a": "1"}),
        ("| logfmt | label_format b=a | drop c", "a=1 c=2", {"b": "1"}),
        ('| logfmt | label_format x="{{.a}}{{.b}}", a=b', "a=1 b=2", {"x": "12", "a": "2"}),
        ('| logfmt | line_format "k={{.a}}" | logfmt', "a=1", {"a": "1", "k": "1"}),
        ('| label_format t="{{ __timestamp__ | unixEpoch }}"', "x", {"t": "1"}),
        ("| keep nothing", "x", {}),
    ],
)
def test_stages(pipeline: str, line: str, labels: dict[str, str]) -> None:
    assert labels_of(pipeline, line, {}) == labels


@pytest.mark.parametrize(
    ("condition", "fields", "passes"),
    [
        ('addr = ip("10.0.0.0/8")', 'addr="from 10.1.2.3:80"', True),
        ('addr != ip("10.0.0.0/8")', "addr=nowhere", True),
        ('addr != ip("10.0.0.0/8")', "x=1", False),
        ('addr = ip("10.0.0.1")', 'addr="it was 10.0.0.1."', False),
        ('addr = ip("::1")', "addr=::1", True),
        ("n == 1e3", "n=1000", True),
        ("n = 0x1p4", "n=16", None),
        ("n = 16", "n=0x1p4", True),
        ("size > 1KB", 'size="1,024 B"', True),
        ("size >= 1.5MiB", "size=1572864", True),
        ("took < -1s", "took=-2s", True),
        ("took > 1h", "took=1.5h", True),
        ("a=`1` and (b=`1` or c=`1`)", "a=1 c=1", True),
        ("a=`1` or b=`1`, c=`1`", "b=1", False),
        ("a=~`.*x`", "a=1x", True),
        ("a!~`p|q`", "a=q", False),
    ],
)
def test_label_filters(condition: str, fields: str, passes: bool | None) -> None:
    query = f"| logfmt | {condition}"
    if passes is None:
        with pytest.raises(ExpressionError):
            labels_of(query, fields)
    else:
        assert (labels_of(query, fields) is not None) == passes


@pytest.mark.parametrize(
    ("text", "error"),
    [("n=many", "LabelFilterErr"), ("n=1e999", "LabelFilterErr"), ("n=0x10", "LabelFilterErr")],
)
def test_what_is_no_number_marks_the_line(text: str, error: str) -> None:
    assert (labels_of("| logfmt | n > 5", text) or {}).get("__error__") == error


def test_a_negative_offset_looks_ahead_in_queries_and_is_refused_in_rules() -> None:
    lines = [entry(70, "x"), entry(80, "x")]
    assert ask('count_over_time({app="a"}[1m] offset -30s)', lines, 50, strict=True) == {"": 2}
    with pytest.raises(ExpressionError, match="looks into the future"):
        logql.compile('count_over_time({app="a"}[1m] offset -30s)')


def test_a_log_query_gives_lines_with_their_labels() -> None:
    query = logql.compile_log_query('{app="a"} |= "user" | json | took > 5 | line_format "{{.user}} took {{.took}}"')
    assert query.matches(STREAM)
    found = [query.run(STREAM, item) for item in JSON]
    assert found == [None, ("v took 7", {"app": "a", "user": "v", "took": "7", "size": "2KB"}), None]
    failed = logql.compile_log_query('{app="a"} | json').run(STREAM, JSON[2])
    assert failed is not None
    assert failed[1]["__error__"] == "JSONParserErr"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rate({app="a"}[1m])', "a log query is wanted here"),
        ('{app="a"} | unwrap x', "unwrap takes a number for a range aggregation"),
        ("{}", "at least one regexp or equality matcher"),
    ],
)
def test_what_is_no_log_query_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        logql.compile_log_query(text)
