"""Which queries a template asks is told when it is loaded."""

from __future__ import annotations

import pytest
from promql_parser import parse

from engine.core.gotemplate import compile_template

TOLD = [
    ('{{ query "up" | first | value }}', ("up",)),
    ('{{ "up" | query }}{{ range query `rate(x[5m])` }}{{ end }}{{ query "up" }}', ("up", "rate(x[5m])")),
    ('{{ with (query "a") }}{{ query "b" }}{{ else }}{{ query "c" }}{{ end }}', ("b", "c", "a")),
    ('{{ define "t" }}{{ query "d" }}{{ end }}{{ (query "e" | first).Value }}', ("e", "d")),
    # a matcher that is filled in is left out
    ("{{ printf `up{job='%s'}` $labels.job | query }}", ("up{}",)),
    ('{{ query (printf `up{job=~"%s.*", env="x"} > 0` $labels.job) }}', ('up{ env="x"} > 0',)),
    ("{{ printf `up{job=%q,env!=%q}[5m:]` $labels.job .Labels.env | query }}", ("up{}[5m:]",)),
    ('{{ printf `sum(rate({__name__="x",%s="1"}[1m]))` $labels.job | query }}', ('sum(rate({__name__="x"}[1m]))',)),
    ("{{ $labels.job | printf `a{b='%s'} / c{d=\"}%%\"}` | query }}", ('a{} / c{d="}%"}',)),
    # a number selects nothing
    ("{{ query (printf `up > %f and x %% 2 == bool %d` 1.5 2) }}", ("up > 0 and x % 2 == bool 0",)),
    (
        "{{ query (printf `label_replace(up, 'a', '%s', 'b', 'c')` .Labels.x) }}",
        ("label_replace(up, 'a', '', 'b', 'c')",),
    ),
]


@pytest.mark.parametrize(("source", "queries"), TOLD)
def test_query_is_told_or_one_that_selects_more(source: str, queries: tuple[str, ...]) -> None:
    template = compile_template(source)
    assert (template.queries, template.notices) == (queries, ())
    for text in queries:
        parse(text)


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("x\n{{ query $labels.q }}", (2, 4)),
        ("{{ $labels.q | query }}", (1, 4)),
        ("{{ printf $labels.q 1 | query }}", (1, 4)),
        ("{{ printf \"%s{a='b'}\" $labels.metric | query }}", (1, 4)),
        ('{{ printf "rate(x[%dm])" 5 | query }}', (1, 4)),
        ('{{ printf "up offset %s" "5m" | query }}', (1, 4)),
        ('{{ printf "up offset -%d" 5 | query }}', (1, 4)),
        ('{{ printf "up > %dm" 5 | query }}', (1, 4)),
        ('{{ printf "up_%d" 5 | query }}', (1, 4)),
        ("{{ printf `{__name__='%s'}` .Labels.m | query }}", (1, 4)),
        ("{{ printf `{a!='x',b='%s'}` .Labels.m | query }}", (1, 4)),
        ("{{ if true }}{{ query (print `a` `b`) }}{{ end }}", (1, 17)),
    ],
)
def test_query_that_cannot_be_told_is_noticed_with_its_place(source: str, place: tuple[int, int]) -> None:
    template = compile_template(source)
    assert template.queries == ()
    assert [(notice.line, notice.column) for notice in template.notices] == [place]
    assert "cannot be told" in template.notices[0].message
