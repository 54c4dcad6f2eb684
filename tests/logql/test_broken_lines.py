"""Lines that are not what their parser expects: each row is what a Loki 3.7.8 gives for it."""

from __future__ import annotations

import pytest

from tests.logql.lines import ask, entry, labels_of


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ('a=1 bad="open b=2 c="two words" d=4', {"a": "1", "bad": "open b=2 c=", "d": "4"}),
        ('="x" a=1', {"a": "1"}),
        ("a=b=c d=2", {"d": "2"}),
        ('a"b c=1', {"c": "1"}),
        ('a="open b=1', {}),
        (r'a="x\q" b=1', {"b": "1"}),
        (r'a="x\u00e9\n" b="y"z=3', {"a": "xé\n", "b": "y", "z": "3"}),
        ("x=1\x01y=2", {"x": "1", "y": "2"}),
        ("a= b=1 alone", {"b": "1"}),
    ],
)
def test_logfmt_goes_on_behind_what_is_malformed(line: str, labels: dict[str, str]) -> None:
    assert labels_of("| logfmt", line) == labels


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ("a=1 b=2", {"a": "1", "who": "2"}),
        ("b=2", {"a": "", "who": "2"}),
        ("x=1", {"a": "", "who": ""}),
        ("a=1 a=2", {"a": "2", "who": ""}),
    ],
)
def test_logfmt_with_fields_gives_each_a_label(line: str, labels: dict[str, str]) -> None:
    assert labels_of('| logfmt a, who="b"', line) == labels


def test_a_field_that_logfmt_did_not_find_is_no_number() -> None:
    assert labels_of("| logfmt a, b | b > 1", "a=1") is not None
    assert ask('sum by (__error__) (count_over_time({app="a"} | logfmt a, b | b > 1 [1m]))', [entry(1, "a=1")]) == {}


@pytest.mark.parametrize(
    ("query", "line", "result"),
    [
        ("sum by (a, b) (count_over_time(%s | logfmt a, b [1m]))", "a=1 b=2", {"a=1,b=": 1}),
        ("sum by (a, b) (count_over_time(%s | logfmt a, b [1m]))", "b=2 a=1", {"a=,b=2": 1}),
        ("sum by (a) (count_over_time(%s | logfmt a, b | b > 1 [1m]))", "b=2 a=1", {"a=": 1}),
        ("sum by (who) (count_over_time(%s | logfmt who=\"user\" [1m]))", "user=ada", {"who=": 1}),
        ("count_over_time(%s | logfmt a, b [1m])", "b=2 a=1", {"a=1,b=2": 1}),
    ],
)  # fmt: skip
def test_logfmt_with_fields_stops_at_the_first_where_a_grouping_asks_for_them_as_loki_does(
    query: str, line: str, result: dict[str, float]
) -> None:
    assert ask(query % '{app="a"}', [entry(1, line)]) == result


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("sum by (a) (count_over_time(%s | logfmt --strict [1m]))", {"a=1": 1}),
        ('count_over_time(%s | logfmt --strict | __error__="" [1m])', {}),
        # nobody looks at the line, so it is not formatted, and `user` need not be found
        ("sum by (a) (count_over_time(%s | logfmt --strict | line_format `{{.user}}` [1m]))", {"a=1": 1}),
    ],
)
def test_strict_logfmt_does_not_mind_what_is_behind_all_that_is_asked_for(query: str, result: dict[str, float]) -> None:
    assert ask(query % '{app="a"}', [entry(1, 'a=1 ="x"')], strict=True) == result


def test_absence_asks_for_no_label_so_no_parser_can_fail() -> None:
    assert ask('absent_over_time({app="a"} | json [1m])', [entry(1, "broken")], strict=True) == {}


@pytest.mark.parametrize(
    ("path", "line", "value"),
    [
        ("a", '{"a":1,"a":2}', "1"),
        ("a", '{"b":{"a":3},"a":1', "1"),
        ("b", '{"b":{"a":3},"a":nul}', '{"a":3}'),
        ("b.a", '{"b":{"a":3},"a":nul}', "3"),
        ("t[1]", '{"t":["p","q"],"a":nul}', "q"),
        ("a", '{"a":{"b":1}} trailing', '{"b":1}'),
        ("x", '{"a":1', ""),
        ("a[1]", '{"a":"x', ""),
    ],
)
def test_json_with_paths_reads_a_line_up_to_where_it_is_malformed(path: str, line: str, value: str) -> None:
    assert labels_of(f'| json x="{path}"', line) == {"x": value}


def test_json_with_paths_marks_a_line_that_goes_wrong_in_what_is_asked_for() -> None:
    found = labels_of('| json x="a" | __error__!=""', '{"a":"x')
    assert found is not None
    assert found["__error__"] == "JSONParserErr"
