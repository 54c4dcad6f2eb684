"""The language, feature by feature. The expected texts are what Go's text/template printed for these templates.

The data are those of `oracle.py`; `test_against_go.py` asks Go again where it is installed.
"""

from __future__ import annotations

import pytest

from tests.core.gotemplate.oracle import Answer, ours

FIELDS = [
    ("plain text", "plain text"),
    ("{{.Labels.job}} {{$labels.job}} {{$.Labels.job}}", "bridge bridge bridge"),
    ("{{.Labels.missing}}|{{.Any.missing}}|{{.Any.none}}", "|<no value>|<no value>"),
    ("{{.Any.map.b.c}} {{(.Any.map).b.c}} {{(.Labels).job | toUpper}}", "deep deep BRIDGE"),
    ("{{$x := .Any.none}}{{$x.y}}", "<no value>"),
    ('{{(query "up" | first).Labels.job}} {{(index (query "up") 1).Value | printf "%.1f"}}', "b 0.2"),
]

BRANCHES = [
    ("{{if .Labels.empty}}a{{else if .Labels.job}}b{{else}}c{{end}}", "b"),
    ('{{if 0}}0{{end}}{{if 0.0}}f{{end}}{{if ""}}s{{end}}', ""),
    ("{{if .Any.empty}}l{{end}}{{if .Any.none}}n{{end}}{{if unix 0.0}}t{{end}}", "t"),
    ("{{with .Labels.job}}{{.}}{{else}}no{{end}}", "bridge"),
    ("{{with .Labels.empty}}{{.}}{{else with .Labels.job}}<{{.}}>{{else}}no{{end}}", "<bridge>"),
    ("{{with $y := .Labels.job}}{{$y}}{{end}}", "bridge"),
    ('{{if and (lt $value 1.0) true}}a{{else if eq $labels.job "bridge"}}b{{else}}c{{end}}', "b"),
]

RANGES = [
    ("{{range .Any.list}}[{{.}}]{{end}}", "[1][two][[3]][map[k:v]][<no value>]"),
    ("{{range $i, $e := .Any.list}}{{$i}}={{$e}};{{end}}", "0=1;1=two;2=[3];3=map[k:v];4=<no value>;"),
    ("{{range $e := .Any.list}}{{$e}};{{end}}", "1;two;[3];map[k:v];<no value>;"),
    ("{{range $k, $v := .Any.map}}{{$k}}:{{$v}} {{end}}", "a:1 b:map[c:deep] "),
    ("{{range .Any.empty}}x{{else}}none{{end}}", "none"),
    ("{{range .Any.none}}x{{else}}nil{{end}}", "nil"),
    ("{{range $i := 5}}{{$i}}{{end}}", "01234"),
    ("{{range -3}}x{{else}}neg{{end}}", "neg"),
    ('{{range .Any.list}}{{if eq (printf "%v" .) "two"}}{{break}}{{end}}{{.}},{{end}}!', "1,!"),
    (
        '{{range .Any.list}}{{if eq (printf "%v" .) "two"}}{{continue}}{{end}}{{.}},{{end}}!',
        "1,[3],map[k:v],<no value>,!",
    ),
    ("{{range $i := 3}}{{range $j := 3}}{{if eq $j 1}}{{break}}{{end}}{{$i}}{{$j}} {{end}}{{end}}", "00 10 20 "),
    ('{{range query "up"}}{{.Labels.job}}={{.Value}};{{end}}', "b=1;a=0.25;"),
]

VARIABLES = [
    ("{{$x := 1}}{{range 3}}{{$x = .}}{{end}}{{$x}}", "2"),
    ("{{$x := 1}}{{range 3}}{{$x := .}}{{end}}{{$x}}", "1"),
    ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
    ("{{if $x := 0}}a{{else}}{{$x}}{{end}}", "0"),
    ("{{$x := 5}}{{if false}}{{$x := 1}}{{else}}{{$x}}{{end}}", "5"),
    ("{{$x := 7}}{{$x := $x}}{{$x}}", "7"),
    ("{{range $i, $e := .Any.empty}}x{{else}}{{$i}}{{$e}}{{end}}", "[][]"),
]

TEMPLATES = [
    ('{{define "a"}}A{{.}}{{$}}{{end}}{{template "a" 3}}', "A33"),
    ('{{define "a"}}A{{.x}}{{end}}{{template "a"}}', "A<no value>"),
    ('{{block "b" .Labels}}<{{.job}}>{{end}}', "<bridge>"),
    ('{{define "b"}}D{{end}}{{block "b" .Labels}}{{end}}', "D"),
    ('{{define "b"}}1{{end}}{{define "b"}} {{/* x */}} {{end}}{{template "b"}}', "1"),
]

TEXT_AND_COMMENTS = [
    ("a {{- 1 -}} b", "a1b"),
    ("a {{- /* gone */ -}} b", "ab"),
    ('a  {{- " - " -}}  b', "a - b"),
    ("a {{- -1 -}} b", "a-1b"),
    ('{{"}}"}} {{"{{"}} {{1}}}', "}} {{ 1}"),
    ("{ {{1}} }", "{ 1 }"),
    ("{{- /* a\nb */ -}}\n x", "x"),
    ("a \n\t{{- 1 -}}\n\n b", "a1b"),
]

CONSTANTS = [
    ('{{"\\x41\\101\\u0041\\U00000041\\n\\t\\"\\\\"}}', 'AAAA\n\t"\\'),
    ("{{`raw\\n`}}", "raw\\n"),
    ("{{'a'}} {{'\\n'}} {{'é'}} {{'\\x41'}}", "97 10 233 65"),
    ("{{0x1F}}", "31"),
    ("{{0b101}}", "5"),
    ("{{0o17}}", "15"),
    ("{{017}}", "15"),
    ("{{1_000}}", "1000"),
    ("{{0x_1F}}", "31"),
    ("{{1e3}}", "1000"),
    ("{{1.5e-7}}", "1.5e-07"),
    ("{{.5}}", "0.5"),
    ("{{-3}}", "-3"),
    ("{{+4}}", "4"),
    ("{{0x1p4}}", "16"),
    ("{{1e20}}", "1e+20"),
    ("{{100000000.0}}", "1e+08"),
    ("{{1e6}}", "1e+06"),
    ("{{123456.0}}", "123456"),
    ("{{1.0}}", "1"),
    ("{{-0.0}}", "-0"),
    ("{{9223372036854775807}}", "9223372036854775807"),
    ("{{1i}}", "(0+1i)"),
    ("{{1+2i}}", "(1+2i)"),
    ("{{true}}", "true"),
    ("{{print nil}}", "<nil>"),
    ("{{.Any.none}}", "<no value>"),
]

PIPELINES = [
    ('{{ "a" | print | printf "%s-%s" "x" }}', "x-a"),
    ("{{print (1 | print) 2}} {{(1) | print}}", "12 1"),
    ('{{1 | and 0}} {{1 | and 2}} {{0 | or 3}} {{"x" | or 0}}', "0 1 3 x"),
    ('{{and 0 (index .Any.list 99)}} {{or 1 (index .Any.list 99)}} {{or .Any.none "d"}}', "0 1 d"),
]

BUILTINS = [
    ("{{not 0}}", "true"),
    ("{{not nil}}", "true"),
    ("{{not .Labels}}", "false"),
    ('{{len "héllo"}}', "6"),
    ("{{len .Labels}}", "6"),
    ("{{len .Any.list}}", "5"),
    ("{{index .Any.list 1}}", "two"),
    ('{{index .Any.list 3 "k"}}', "v"),
    ('{{index .Labels "x"}}| {{index .Any "x"}}| {{index "abc" 1}}', "| <no value>| 98"),
    ('{{slice "héllo" 1 3}}', "é"),
    ('{{slice "abc" 1}}', "bc"),
    ('{{slice "héllo" 0 2}}{{slice "héllo" 2 3}}', "hé"),
    ("{{slice .Any.list 1 2}}", "[two]"),
    ('{{print 1 2 "a" 3 "b" nil nil 4.5 true}}', "1 2a3b<nil> <nil> 4.5 true"),
    ('{{println 1 "a" nil}}', "1 a <nil>\n"),
    ('{{html "<a href=\'x\'>&\\"</a>"}}', "&lt;a href=&#39;x&#39;&gt;&amp;&#34;&lt;/a&gt;"),
    ('{{html 1 "<" true}}', "1&lt;true"),
    ("{{html nil}}", "&lt;no value&gt;"),
    ('{{js "a\'b\\"c<>&=\\n\\t\\\\é "}}', "a\\'b\\\"c\\u003C\\u003E\\u0026\\u003D\\u000A\\u0009\\\\é "),
    ('{{urlquery "a b&c=d/é?"}}', "a+b%26c%3Dd%2F%C3%A9%3F"),
    ("{{eq 1 2 1}}", "true"),
    ('{{eq "a" "b"}}', "false"),
    ("{{ne 1 2}}", "true"),
    ("{{lt 1 2}}", "true"),
    ("{{le 1 1}}", "true"),
    ("{{gt 2.5 1.5}}", "true"),
    ('{{ge "b" "a"}}', "true"),
    ('{{lt "Z" "a"}}', "true"),
    ("{{eq .Any.none nil}}", "true"),
    ("{{eq .Labels nil}}", "false"),
    ('{{eq (index "abc" 0) 97}}', "true"),
    ('{{lt (index "abc" 0) 98}}', "true"),
]

PRINTF = [
    ('{{printf "%v %s %q %x" "a b" "a" "a\\n" "hé"}}', 'a b a "a\\n" 68c3a9'),
    ('{{printf "%d %5d|%-5d|%05d %+d" 42 42 42 42 42}}', "42    42|42   |00042 +42"),
    ('{{printf "%x %X %o %b %c %U" 42 42 42 42 42 42}}', "2a 2A 52 101010 * U+002A"),
    ('{{printf "%v %g %f %.2f %e" 2.5 1e21 2.5 2.555 2.5}}', "2.5 1e+21 2.500000 2.56 2.500000e+00"),
    ('{{printf "%8.3f|%-8.1f|%+.1f %G" 2.5 2.5 2.5 1e-7}}', "   2.500|2.5     |+2.5 1E-07"),
    ('{{printf "%v %+v" .Any.map .Any.map}}', "map[a:1 b:map[c:deep]] map[a:1 b:map[c:deep]]"),
    (
        '{{printf "%#v %T" .Any.map .Labels}}',
        'map[string]interface {}{"a":1, "b":map[string]interface {}{"c":"deep"}} map[string]string',
    ),
    (
        '{{printf "%v %+v %T" (query "up" | first) (query "up" | first) 1.5}}',
        "&{map[__name__:up job:b] 1} &{Labels:map[__name__:up job:b] Value:1} float64",
    ),
    ('{{printf "%t %v %5t %s" true false true true}}', "true false  true %!s(bool=true)"),
    ('{{printf "%v %d" nil nil}}', "<nil> %!d(<nil>)"),
    ('{{printf "%v %.1f" 1i 1+2i}}', "(0+1i) (1.0+2.0i)"),
    ('{{printf "%[2]d %[1]d" 1 2}}', "2 1"),
    ('{{printf "%*d|%-*d|%.*f" 5 1 5 2 1 3.14159}}', "    1|2    |3.1"),
    ('{{printf "%[1]x %[1]o" 8}}', "8 10"),
    ('{{printf "%d"}}', "%!d(MISSING)"),
    ('{{printf "a" 1}}', "a%!(EXTRA int=1)"),
    ('{{printf "%d" "x"}}', "%!d(string=x)"),
    ('{{printf "%!"}}', "%!!(MISSING)"),
    ('{{printf "%z" 1}}', "%!z(int=1)"),
    ('{{printf "%[5]d" 1}}', "%!d(BADINDEX)"),
    ('{{printf "%"}}', "%!(NOVERB)"),
    ('{{printf "%*d" "x" 1}}', "%!(BADWIDTH)1"),
    ('{{printf "%5.1f%%" 99.55}}', " 99.5%"),
    ('{{printf "%6.2s|%-6s|%06s" "abcdef" "ab" "ab"}}', "    ab|ab    |0000ab"),
    ('{{printf "%#x %# x %#q %+q" "hi" "hi" "a" "é"}}', '0x6869 0x68 0x69 `a` "\\u00e9"'),
    ('{{printf "%#o %#g" 8 1.0}}', "010 1.00000"),
]

TABLES = {
    "fields": FIELDS,
    "branches": BRANCHES,
    "ranges": RANGES,
    "variables": VARIABLES,
    "templates": TEMPLATES,
    "text and comments": TEXT_AND_COMMENTS,
    "constants": CONSTANTS,
    "pipelines": PIPELINES,
    "builtins": BUILTINS,
    "printf": PRINTF,
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [pytest.param(*row, id=f"{name}: {row[0]}") for name, rows in TABLES.items() for row in rows],
)
def test_template_says_what_go_says(source: str, expected: str) -> None:
    assert ours(source) == Answer(expected)


# template, and what the error says
FAILURES = [
    ("{{.Missing}}", "can't evaluate field Missing in type template.data"),
    ("{{.Labels.job.x}}", "can't evaluate field x in type string"),
    ("{{.Any.missing.x}}", "nil pointer evaluating interface {}.x"),
    ("{{range 2.5}}x{{end}}", "range can't iterate over 2.5"),
    ("{{range $i, $j := 5}}{{$i}}{{end}}", "can't use 5 to iterate over more than one variable"),
    ("{{if true}}{{$x := 1}}{{else}}{{end}}{{$x = 1}}", "undefined variable: $x"),
    ("{{if false}}{{$x := 1}}{{else}}{{$x}}{{end}}", "undefined variable: $x"),
    ("{{$x := $x}}", "undefined variable: $x"),
    ('{{template "nope"}}', 'template "nope" not defined'),
    ("{{nil}}", "nil is not a command"),
    ("{{1 2}}", "can't give argument to non-function 1"),
    ('{{.Labels.job "x"}}', "job is not a method but has arguments"),
    ("{{1 | .Labels.job}}", "job is not a method but has arguments"),
    ("{{index .Any.list 5}}", "error calling index: reflect: slice index out of range"),
    ("{{index .Labels 1}}", "error calling index: value has type int; should be string"),
    ('{{slice "abc" 2 1}}', "error calling slice: invalid slice index: 2 > 1"),
    ("{{len 3}}", "error calling len: len of type int"),
    ("{{eq 1 1.0}}", "error calling eq: incompatible types for comparison: int and float64"),
    ('{{eq 1 "1"}}', "error calling eq: incompatible types for comparison: int and string"),
    ("{{eq 1}}", "error calling eq: missing argument for comparison"),
    ("{{lt true false}}", "error calling lt: invalid type for comparison"),
    ("{{gt $value 2}}", "error calling gt: incompatible types for comparison: float64 and int"),
    ("{{toUpper 3}}", "expected string; found 3"),
    ("{{toUpper $value}}", "wrong type for value; expected string; got float64"),
    ("{{toUpper .Any.none}}", "invalid value; expected string"),
    ("{{toUpper}}", "wrong number of args for toUpper: want 1 got 0"),
    ("{{printf 3}}", "expected string; found 3"),
    ('{{match "(" "x"}}', "error calling match: error parsing regexp: missing ): (: `(`"),
    ('{{query "none" | first | value}}', "error calling first: first() called on vector with no elements"),
    ('{{query "fail"}}', "error calling query: query failed"),
    ("{{(unix 0.0).Format}}", "wrong number of args for Format: want 1 got 0"),
    ("{{call .Labels.job}}", "error calling call: non-function of type string"),
]


@pytest.mark.parametrize(("source", "reason"), FAILURES)
def test_what_go_stops_at_stops_here_with_the_place(source: str, reason: str) -> None:
    answer = ours(source)
    assert (answer.stage, answer.text) == ("run", "")
    assert answer.error.startswith("1:")
    assert answer.error.endswith(f">: {reason}")
