"""Matching lines for many rules at once finds, for each rule, what the rule finds alone."""

from __future__ import annotations

import json

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import logql
from engine.core.messages import LogEntry
from engine.logql.joint import join
from engine.logql.literals import in_regex, requirement
from engine.logql.parse import parse
from engine.logql.pipeline import Pipeline
from engine.logql.regexes import compile_regex, matches_somewhere, matches_whole
from engine.logql.tree import LineFilter, LogQuery, Place
from tests.logql.lines import entry

STREAM = {"app": "a", "level": "stream"}
FILTERS = [
    "",
    '|= "policy_violation"',
    '|= "login"',
    '|= "login" or "logout"',
    '!= "bob"',
    '|~ "u[0-9]+"',
    '|~ "login|policy"',
    '|~ "(?i)LOGIN"',
    '|> "<_>user<_>"',
    '|= "" |= "o"',
    '|= ip("10.0.0.0/8")',
]
STAGES = [
    "",
    "| json",
    "| logfmt",
    '| json | event="policy_violation"',
    '| json | event!="login" | took > 5',
    '| json | event=~"log.*" or took > 5',
    "| json | drop event",
    "| json | keep user",
    "| json | label_format who=user",
    "| json | unwrap took",
    '| json | took > 5 | __error__=""',
    "| json | logfmt",
    "| logfmt | took > 5s",
    '| json who="user"',
    "| unpack",
    '| regexp "(?P<user>u[0-9]+)"',
    '| decolorize |= "u" | json',
]
GROUPINGS = ["", "by (user)", "by (event, level)", "by ()", "without (took)", "by (__error__)"]


@st.composite
def queries(draw: st.DrawFn) -> str:
    pipeline = " ".join(draw(st.lists(st.sampled_from(FILTERS), max_size=2))) + " " + draw(st.sampled_from(STAGES))
    operation = "sum_over_time" if "unwrap" in pipeline else draw(st.sampled_from(["rate", "bytes_over_time"]))
    return f'sum {draw(st.sampled_from(GROUPINGS))} ({operation}({{app="a"}} {pipeline} [1m]))'


FIELDS = st.dictionaries(
    st.sampled_from(["event", "user", "took", "level", "user_id"]),
    st.sampled_from(["policy_violation", "login", "logout", "u17", "7", "7s", "many", 9, True, None, {"id": "x"}]),
    max_size=4,
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    fields = draw(FIELDS)
    text = json.dumps(fields)
    logfmt = " ".join(f"{name}={value}" for name, value in fields.items())
    others = ["", text[:-1], text + " tail", "plain login u5", "from 10.1.2.3 u9 policy_violation", '{"_entry":"x"}']
    return draw(st.sampled_from([text, text, text, logfmt, *others]))


@settings(max_examples=200)
@given(
    texts=st.lists(queries(), min_size=1, max_size=30),
    batch=st.lists(lines(), max_size=8),
    metadata=st.sampled_from([{}, {"user": "meta"}]),
)
def test_all_rules_together_find_what_each_finds_alone(
    texts: list[str], batch: list[str], metadata: dict[str, str]
) -> None:
    pipelines = [selector.extract for text in texts for selector in logql.compile(text).selectors]
    entries = [LogEntry(row, line, metadata) for row, line in enumerate(batch)]
    alone = {
        (number, row, found)
        for number, extract in enumerate(pipelines)
        for row, item in enumerate(entries)
        if extract is not None and (found := extract(STREAM, item)) is not None
    }
    together = {
        (number, row, (series, value))
        for number, matched in join([one for one in pipelines if one is not None])(STREAM, entries)
        for row, series, value in zip(matched.rows, matched.series, matched.values, strict=True)
    }
    assert together == alone


@pytest.mark.parametrize("count", [1, 5, 50])
def test_the_way_texts_are_looked_for_depends_on_their_number_and_the_result_does_not(count: int) -> None:
    extracts = [_pipeline(f'count_over_time({{app="a"}} |= "word{i} " [1m])') for i in range(count)]
    batch = [entry(1, f"word{i} word{i} and word{i + 1} end") for i in range(count)]
    found = {number: list(matched.rows) for number, matched in join(extracts)(STREAM, batch)}
    assert found == {i: [row for row in (i - 1, i) if row >= 0] for i in range(count)}


def _pipeline(query: str) -> Pipeline:
    extract = logql.compile(query).selectors[0].extract
    assert isinstance(extract, Pipeline)
    return extract


def test_a_parser_runs_once_per_line_for_all_rules_that_begin_with_it() -> None:
    class Counting(dict[str, str]):
        """Metadata that counts how often a line is made with it."""

        lines = 0

        def __bool__(self) -> bool:
            Counting.lines += 1
            return False

    rules = [_pipeline(f'sum by (user) (rate({{app="a"}} | json | event="e{i}" [1m]))') for i in range(50)]
    batch = [LogEntry(1, '{"event":"e7","user":"u"}', Counting()), LogEntry(2, '{"event":"none"}', Counting())]
    found = join(rules)(STREAM, batch)
    assert [(number, list(matched.rows)) for number, matched in found] == [(7, [0])]
    assert Counting.lines == len(batch)


@pytest.mark.parametrize(
    ("filters", "texts"),
    [
        ('|= "abc"', ("abc",)),
        ('|= "a" |= "longer"', ("longer",)),
        ('|= "a" or "b"', ("a", "b")),
        ('|= "a" or ""', None),
        ('!= "abc"', None),
        ('|= ip("10.0.0.1")', None),
        ('|~ "status=5[0-9]{2} took"', ("status=5",)),
        ("|~ `a\\.b\\d+cde`", ("a.b",)),
        ('|~ "colou?r"', ("colo",)),
        ('|~ "ab*"', ("a",)),
        ('|~ "abc|de"', ("abc", "de")),
        ('|~ "x(abc|de)y"', ("x",)),
        ('|~ "(abc|de)"', None),
        ('|~ "(?i)abc"', None),
        ('|~ "[abc]"', None),
        ('|~ "ab{0,2}c"', ("a",)),
        ("|~ `\\x41bcd`", ("bcd",)),
        ('|> "<_> failed for <_>"', (" failed for ",)),
    ],
)
def test_what_a_line_must_hold(filters: str, texts: tuple[str, ...] | None) -> None:
    tree = parse(f"{{app=`a`}} {filters}")
    assert isinstance(tree, LogQuery)
    found = requirement([stage for stage in tree.stages if isinstance(stage, LineFilter)])
    assert (found.texts if found else None) == texts


ATOMS = st.sampled_from(["a", "b", "ab", "\\.", "\\d", "[ab]", "[^]a]", ".", "(a|b)", "(?:ab)", "^", "$", "\\x61", "1"])
REGEXES = st.lists(
    st.tuples(
        ATOMS, st.sampled_from(["", "", "", "*", "+", "?", "{0,2}", "{2}", "*?"]), st.sampled_from(["", "", "|"])
    ),
    min_size=1,
    max_size=6,
).map(lambda parts: "".join("".join(part) for part in parts))


PLACE = Place(1, 1)
WORDS = st.lists(st.sampled_from(["", "a", "ab", ".*", "b", "|", ".", "1"]), max_size=4).map("".join)


@settings(max_examples=300)
@given(expression=WORDS, text=st.text("ab.1\n", max_size=5))
def test_an_expression_that_is_tested_as_a_string_says_what_re2_says(expression: str, text: str) -> None:
    pattern = compile_regex(expression, PLACE)
    assert matches_whole(expression, PLACE)(text) == (pattern.fullmatch(text) is not None)
    assert matches_somewhere(expression, PLACE)(text) == (pattern.search(text) is not None)


@settings(max_examples=500)
@given(expression=REGEXES, line=st.text("ab.1]", max_size=8))
def test_every_line_that_matches_a_regular_expression_holds_one_of_its_texts(expression: str, line: str) -> None:
    texts = in_regex(expression)
    try:
        pattern = re2.compile(f"(?s){expression}")
    except re2.error:
        return
    if texts is not None and pattern.search(line):
        assert any(text in line for text in texts)
