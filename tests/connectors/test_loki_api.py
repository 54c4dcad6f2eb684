"""What is asked of a Loki, what its answers mean, and which lines are new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from connectors._loki_api import ApiError, Taken, count_query, read_count, read_streams, read_tailed, scopes
from engine.core.messages import LogEntry, LogStream
from engine.core.rules import RuleGroup, parse_rules
from engine.languages import LANGUAGES

A, B = b'{"app":"a"}', b'{"app":"b"}'


def groups(*expressions: str) -> list[RuleGroup]:
    rules = "".join(f"      - alert: A{i}\n        expr: {text}\n" for i, text in enumerate(expressions))
    found, problems = parse_rules(f"groups:\n  - name: g\n    rules:\n{rules}", "r.yml", LANGUAGES["logql"])
    assert problems == []
    return found


def stream(labels: bytes, *entries: LogEntry) -> LogStream:
    return LogStream(Raw(labels), list(entries))


@pytest.mark.parametrize(
    ("expressions", "given", "wanted"),
    [
        (["count_over_time({app='a'}[5m]) > 0"], [], ['{app="a"}']),
        (["rate({app='a'} |= `x` [1m]) > 0", "rate({app='a'} | json [1m]) > 0"], [], ['{app="a"}']),
        (["rate({app='a', env='p'}[1m]) > 0", "rate({app='a'}[1m]) > 0"], [], ['{app="a"}']),
        (["rate({app='a', env='p'}[1m]) > 0", "rate({app='b'}[1m]) > 0"], [], ['{app="a",env="p"}', '{app="b"}']),
        (["rate({app='a'}[1m]) > 0"], ['{ns="x"}'], ['{ns="x"}']),
        ([], ['{ns="x"}'], []),
    ],
)
def test_what_is_read_is_what_rules_read_or_what_the_settings_say(
    expressions: list[str], given: list[str], wanted: list[str]
) -> None:
    quoted = [text.replace("'", '"') for text in expressions]
    found = scopes(groups(*(f"'{text}'" for text in quoted)) if quoted else [], given)
    assert [scope.selector for scope in found] == wanted


def test_everything_is_read_as_far_back_as_any_rule_looks() -> None:
    found = scopes(groups("'rate({app=\"a\"}[1m]) > 0'", "'rate({app=\"b\"}[2h] offset 1h) > 0'"))
    assert {scope.reach_ms for scope in found} == {3 * 3_600_000}


def test_an_answer_s_streams_have_their_structured_metadata_apart() -> None:
    body = (
        b'{"status":"success","data":{"resultType":"streams","encodingFlags":["categorize-labels"],"result":['
        b'{"stream":{"app":"a"},"values":[["6","y",{}],["5","x",{"structuredMetadata":{"k":"v"},"parsed":{"p":"q"}}]]},'
        b'{"stream":{"app":"b"},"values":[["7","old Loki"]]}],"stats":{}}}'
    )
    assert read_streams(body) == [
        stream(A, LogEntry(5, "x", {"k": "v"}), LogEntry(6, "y")),
        stream(B, LogEntry(7, "old Loki")),
    ]


def test_a_tail_s_message_puts_lines_of_one_stream_together_and_tells_how_many_are_left_out() -> None:
    message = (
        b'{"streams":[{"stream":{"app":"a"},"values":[["6","y",{}]]},{"stream":{"app":"a"},"values":[["5","x",{}]]}],'
        b'"dropped_entries":[{"timestamp":"3","labels":{"app":"a"}}],"encodingFlags":["categorize-labels"]}'
    )
    assert read_tailed(message) == ([stream(A, LogEntry(5, "x"), LogEntry(6, "y"))], 1)
    assert read_tailed(b'{"streams":null}') == ([], 0)


@pytest.mark.parametrize(("result", "count"), [(b"[]", 0), (b'[{"metric":{},"value":[1795515546.337,"7"]}]', 7)])
def test_a_count_is_a_number_or_nothing(result: bytes, count: int) -> None:
    assert read_count(b'{"status":"success","data":{"resultType":"vector","result":%b}}' % result) == count


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"status":"error"}',
        b'{"status":"success","data":{"resultType":"vector","result":[]}}',
        b'{"status":"success","data":{"resultType":"streams","result":[{"stream":{"a":1},"values":[]}]}}',
        b'{"status":"success","data":{"resultType":"streams","result":[{"stream":{},"values":[["soon","x"]]}]}}',
    ],
)
def test_an_answer_of_another_kind_is_an_error(body: bytes) -> None:
    with pytest.raises(ApiError):
        read_streams(body)


def test_a_span_is_asked_for_in_milliseconds_the_smallest_unit_loki_has() -> None:
    assert count_query('{app="a"}', 1_500) == 'sum(count_over_time({app="a"}[1500ms]))'


def test_a_line_is_taken_once_whatever_it_was_read_by() -> None:
    taken = Taken()
    first = stream(A, LogEntry(1, "x"), LogEntry(1, "y"))
    assert taken.add([first], 1) == [first]
    assert taken.add([stream(A, LogEntry(1, "y"), LogEntry(2, "z"))], 2) == [stream(A, LogEntry(2, "z"))]
    assert (taken.count(1, 0, 9), taken.count(2, 0, 9)) == (2, 2)


@pytest.mark.parametrize(
    "other",
    [
        stream(B, LogEntry(1, "x")),
        stream(A, LogEntry(2, "x")),
        stream(A, LogEntry(1, "y")),
        stream(A, LogEntry(1, "x", {"k": "v"})),
    ],
)
def test_stream_time_text_and_metadata_make_a_line(other: LogStream) -> None:
    taken = Taken()
    taken.add([stream(A, LogEntry(1, "x"))], 1)
    assert taken.add([other], 1) == [other]


def test_what_was_not_delivered_is_new_again_and_what_is_old_is_forgotten() -> None:
    taken = Taken()
    new = taken.add([stream(A, LogEntry(1_999_999, "x"), LogEntry(5_000_000, "y"))], 1)
    assert (taken.count(1, 0, 1), taken.count(1, 1, 2), taken.count(1, 5, 6), taken.count(2, 0, 9)) == (0, 1, 1, 0)
    taken.remove(new)
    assert taken.count(1, 0, 9) == 0
    assert taken.add(new, 1) == new
    taken.forget(5)
    assert (taken.count(1, 0, 5), taken.count(1, 5, 6)) == (0, 1)
    assert taken.add(new[:1], 1) == [stream(A, LogEntry(1_999_999, "x"))]


lines = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 5), st.sampled_from("xyz")), max_size=20)


@given(st.lists(lines, max_size=6))
def test_however_lines_come_each_is_new_once(messages: list[list[tuple[bytes, int, str]]]) -> None:
    taken, found = Taken(), []
    for number, message in enumerate(messages):
        for one in taken.add([stream(labels, LogEntry(t_ns, text)) for labels, t_ns, text in message], number % 3):
            found += [(bytes(one.labels), entry.t_ns, entry.line) for entry in one.entries]
    assert sorted(found) == sorted({line for message in messages for line in message})
