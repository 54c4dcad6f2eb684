"""What the stages of a pipeline do to one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import logql
from engine.core.messages import LogEntry
from engine.logql.pipeline import decode_series
from tests.logql.lines import STREAM, labels_of

JSON = '{"event":"policy_violation","user":{"id":"u1","name":"mallory"},"n":1.50,"ok":true,"nil":null,"tags":["x","y"]}'


@pytest.mark.parametrize(
    ("filters", "line", "passes"),
    [
        ('|= "err"', "an error", True),
        ('|= "ERR"', "an error", False),
        ('!= "err"', "an error", False),
        ('|= "a" |= "b"', "ab", True),
        ('|= "a" or "b"', "xb", True),
        ('!= "a" or "b"', "xb", False),
        ('|~ "code=5.."', "code=503", True),
        ('|~ "a.b"', "a\nb", True),
        ('!~ "code=5.."', "code=200", True),
        ('|> "GET <_> 200"', "GET /x 200", True),
        ('|> "<_> 200"', "GET /x 200 200", True),
        ('|> "GET"', "GET /x", False),
        ('!> "GET <_>"', "POST /x", True),
        ('|= ip("10.0.0.0/8")', "from 10.1.2.3:80", True),
        ('|= ip("10.0.0.1-10.0.0.9")', "from 10.0.0.7", True),
        ('|= ip("2001:db8::/32")', "from 2001:db8::1 ok", True),
        ('!= ip("10.0.0.0/8")', "from 192.168.1.1", True),
    ],
)
def test_line_filters(filters: str, line: str, passes: bool) -> None:
    assert (labels_of(filters, line) is not None) == passes


@pytest.mark.parametrize(
    ("parser", "line", "labels"),
    [
        (
            "| json",
            JSON,
            {"event": "policy_violation", "user_id": "u1", "user_name": "mallory", "n": "1.50", "ok": "true"},
        ),
        ("| json", '{"a.b":1,"9x":"d","dup":"first","dup":"second"}', {"a_b": "1", "_9x": "d", "dup": "first"}),
        ("| json", '{"level":"x","":"y","e":""}', {"level": "x", "e": ""}),
        ('| json who="user.id", tag="tags[0]", gone="user.age"', JSON, {"who": "u1", "tag": "x", "gone": ""}),
        (
            """| json u="user", odd="[\\"user\\"].name" """,
            JSON,
            {"u": '{"id":"u1","name":"mallory"}', "odd": "mallory"},
        ),
        ("| json n", JSON, {"n": "1.50"}),
        ("| logfmt", 'a=1 b="two words" c= d "e f" g="\\"q\\""', {"a": "1", "b": "two words", "g": '"q"'}),
        ("| logfmt --keep-empty", "a=1 c= d", {"a": "1", "c": "", "d": ""}),
        ("| logfmt a, z=`b`", "a=1 b=2 c=3", {"a": "1", "z": "2"}),
        ("| logfmt", 'good=1 bad="unterminated', {"good": "1"}),
        ("| regexp `(?P<verb>\\w+) (?P<path>\\S+)`", "GET /x", {"verb": "GET", "path": "/x"}),
        ("| regexp `(?P<num>\\d+)`", "none", {}),
        ("| pattern `<verb> <_> <code>`", "GET /x 200", {"verb": "GET", "code": "200"}),
        ("| pattern `[<when>] <what>`", "no bracket", {}),
        ("| unpack", '{"a":"1","n":5,"_entry":"x"}', {"a": "1"}),
        ("| unpack", '{"a":"1"}', {}),
        ("| unpack | logfmt", '{"a":"1","_entry":"b=2"}', {"a": "1", "b": "2"}),
    ],
)
def test_parsers(parser: str, line: str, labels: dict[str, str]) -> None:
    assert labels_of(parser, line) == labels


@pytest.mark.parametrize(
    ("stage", "labels"),
    [
        ("| drop b", {"a": "1", "c": "3"}),
        ('| drop a="1", b="x"', {"b": "2", "c": "3"}),
        ('| drop a="0", a="1"', {"b": "2", "c": "3"}),
        ("| keep app, b", {"b": "2"}),
        ('| keep app, b=~"[0-9]"', {"b": "2"}),
        ("| label_format z=a", {"z": "1", "b": "2", "c": "3"}),
        ("| label_format z=gone", {"a": "1", "b": "2", "c": "3"}),
        ("| decolorize", {"a": "1", "b": "2", "c": "3"}),
    ],
)
def test_stages_that_change_labels(stage: str, labels: dict[str, str]) -> None:
    assert labels_of(f"| logfmt {stage}", "a=1 b=2 c=3") == labels


def test_a_name_goes_to_the_stream_then_to_metadata_then_to_the_parser_and_losers_are_kept_aside() -> None:
    stream = {**STREAM, "k": "stream", "s": "stream"}
    found = labels_of("| logfmt", "k=parsed m=parsed s2=x", stream, k="meta", m="meta", s="meta")
    assert found == {"k_extracted": "parsed", "m": "meta", "m_extracted": "parsed", "s_extracted": "meta", "s2": "x"}


@pytest.mark.parametrize(
    ("condition", "fields", "passes"),
    [
        ('level="error"', "level=error", True),
        ('level=""', "x=1", True),
        ('level!="error"', "x=1", True),
        ('level=~"err.*"', "level=error", True),
        ('level=~"err"', "level=error", False),
        ("n > 5", "n=6", True),
        ("n > 5", "x=1", False),
        ("n >= -1.5", "n=-1.5", True),
        ("took > 10ms", "took=0.5s", True),
        ("took <= 1m30s", "took=90s", True),
        ("size > 1KB", "size=1.1kb", True),
        ("size < 1KiB", "size=1000", True),
        ('addr = ip("10.0.0.0/8")', "addr=10.9.9.9", True),
        ('addr != ip("10.0.0.0/8")', "addr=10.9.9.9", False),
        # `and` binds closer than `or`
        ("a=`1` or b=`1` and c=`1`", "a=1", True),
        ("(a=`1` or b=`1`) and c=`1`", "a=1", False),
        # a comma joins what stands before it with all that follows
        ("a=`1` or b=`1`, c=`1`", "a=1", True),
        ("a=`1`, b=`1` or c=`1`", "c=1", False),
        ("a=`1`, b=`1` or c=`1`", "a=1 c=1", True),
        ("a=`1` b=`1` or c=`1`", "c=1", False),
    ],
)
def test_label_filters(condition: str, fields: str, passes: bool) -> None:
    assert (labels_of(f"| logfmt | {condition}", fields) is not None) == passes


@pytest.mark.parametrize(
    ("pipeline", "line", "error"),
    [
        ("| json", "broken", "JSONParserErr"),
        ("| json", '{"a":1', "JSONParserErr"),
        ("| json", "[1]", "JSONParserErr"),
        ('| json a="b"', "broken", "JSONParserErr"),
        ("| json", "[" * 100_000, "JSONParserErr"),
        ("| unpack", "broken", "JSONParserErr"),
        ("| logfmt --strict", 'a="', "LogfmtParserErr"),
        ("| logfmt | n > 5", "n=many", "LabelFilterErr"),
        ("| logfmt | took > 5s", "took=5", "LabelFilterErr"),
        ('| json | n!="5"', "broken", "JSONParserErr"),
        ("| logfmt | n > 5 | n > 6", "n=many", "LabelFilterErr"),
    ],
)
def test_a_line_that_fails_goes_on_and_is_marked(pipeline: str, line: str, error: str) -> None:
    assert (labels_of(pipeline, line) or {}).get("__error__") == error
    assert labels_of(f'{pipeline} | __error__=""', line) is None
    dropped = labels_of(f"{pipeline} | drop __error__, __error_details__", line)
    assert dropped is not None
    assert "__error__" not in dropped


NAMES = ["event", "user", "a_b", "user_id", "level_extracted"]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just([1]))
OBJECTS = st.dictionaries(
    st.sampled_from(["event", "user", "a_b", "a.b", "a", "user_id", "level", "noise"]),
    st.one_of(SCALARS, st.dictionaries(st.sampled_from(["b", "id", "x"]), SCALARS, max_size=2)),
    max_size=5,
)


@st.composite
def json_lines(draw: st.DrawFn) -> str:
    """Objects with doubled keys, escapes and blanks, and now and then something broken."""
    pairs = [*draw(OBJECTS).items(), *draw(OBJECTS).items()]
    body = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs)
    text = "{" + body + "}"
    return draw(st.sampled_from([text, text, text.replace('"user"', '"\\u0075ser"'), text[:-1], "[]"]))


@given(line=json_lines(), names=st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=3))
def test_looking_only_for_the_labels_a_sum_asks_for_never_changes_the_result(line: str, names: list[str]) -> None:
    stream = {"app": "a", "level": "stream"}
    grouped = logql.compile(f'sum by ({", ".join(names)}) (count_over_time({{app="a"}} | json | user!="x" [1m]))')
    whole = logql.compile('count_over_time({app="a"} | json | user!="x" [1m])')
    extract, extract_all = grouped.selectors[0].extract, whole.selectors[0].extract
    assert extract is not None
    assert extract_all is not None
    found, full = extract(stream, LogEntry(1, line)), extract_all(stream, LogEntry(1, line))
    if full is None:
        assert found is None
        return
    assert found is not None
    labels, got = decode_series(full[0]), decode_series(found[0])
    if "__error__" in got:
        assert got["__error__"] == labels["__error__"]
    elif "__error__" in labels:  # what is asked for stands before the fault
        assert {name: labels.get(name) for name in [*names, "user"]} == {**got, "user": labels.get("user")}
    else:
        assert got == {name: value for name, value in labels.items() if name in names}


FILTERS = st.lists(
    st.tuples(st.sampled_from(["|=", "!="]), st.lists(st.text("ab", max_size=2), min_size=1, max_size=3))
)


@given(filters=FILTERS, line=st.text("abc", max_size=6))
def test_a_chain_of_line_filters_is_what_python_says(filters: list[tuple[str, list[str]]], line: str) -> None:
    chain = " ".join(f"{op} " + " or ".join(f'"{text}"' for text in texts) for op, texts in filters)
    expected = all(any(text in line for text in texts) == (op == "|=") for op, texts in filters)
    assert (labels_of(chain, line) is not None) == expected
