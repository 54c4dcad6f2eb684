"""Functions of line_format and label_format, as Loki's documentation and Sprig's define them."""

from __future__ import annotations

import pytest

from engine.core.gotemplate.loki import compile_line_template
from engine.core.gotemplate.values import TemplateError

LABELS = {
    "user": "alice",
    "path": "/api/v1",
    "n": "42",
    "dur": "1m30s",
    "size": "5KiB",
    "uni": "héllo",
    "json": '{"a":[1,{"b":"c"}]}',
}
T_NS = 1_635_848_430_123_456_789  # 2021-11-02 10:20:30.123456789 UTC
NOW_MS = 1_700_000_000_000


def execute(source: str) -> str:
    return compile_line_template(source).execute(LABELS, "the Line", T_NS, NOW_MS)


TEXT = [
    ("{{.user}} {{.missing}}|{{__line__}}", "alice |the Line"),
    ('{{.user | upper}} {{lower "AB"}} {{title "foo bar-baz it\'s"}}', "ALICE ab Foo Bar-Baz It'S"),
    ('{{ToUpper "a"}}{{ToLower "B"}} {{Replace "aaa" "a" "b" 2}} {{Replace "aaa" "a" "b" -1}}', "Ab bba bbb"),
    (
        '{{Trim "xax" "x"}}{{TrimLeft "xax" "x"}}{{TrimRight "xax" "x"}}{{TrimPrefix "xa" "x"}}{{TrimSuffix "ax" "x"}}',
        "aaxxaaa",
    ),
    (
        '{{TrimSpace " a "}}|{{trim " a "}}|{{trimAll "$" "$5$"}}|{{trimPrefix "-" "-a"}}|{{trimSuffix "-" "a-"}}',
        "a|a|5|a|a",
    ),
    ('{{replace "/" "_" .path}} {{.path | trunc 4}} {{trunc -2 "abc"}} {{trunc 9 "abc"}}', "_api_v1 /api bc abc"),
    (
        '{{substr 0 3 "abcdef"}} {{substr 3 -1 "abcdef"}} {{substr -1 2 "abcdef"}} {{substr 4 99 "abcdef"}}',
        "abc def ab ef",
    ),
    ('{{indent 2 "a\\nb"}}|{{nindent 1 "a"}}|{{repeat 3 "ab"}}', "  a\n  b|\n a|ababab"),
    (
        '{{contains "li" .user}} {{hasPrefix "al" .user}} {{hasSuffix "al" .user}} {{eq .user "alice"}}',
        "true true false true",
    ),
    (
        '{{alignLeft 5 "hello world"}}|{{alignLeft 5 "hi"}}|{{alignRight 5 "hello world"}}|{{alignRight 5 "hi"}}',
        "hello|hi   |world|   hi",
    ),
    ('{{default "-" ""}} {{default "-" .user}} {{.missing | default "x"}} {{default 5 0}}', "- alice x 5"),
    ('{{b64enc "héllo"}} {{b64dec "aMOpbGxv"}} {{b64dec "!"}}', "aMOpbGxv héllo illegal base64 data at input byte 0"),
    ('{{urlencode "a b/c"}} {{urldecode "a+b%2Fc"}}', "a+b%2Fc a b/c"),
    ('{{regexReplaceAll "(a*)bc" "aabc" "${1}a"}} {{regexReplaceAllLiteral "(ts=)" "ts=1" "$1="}}', "aaa $1=1"),
    ('{{count "a|b" "abab"}} {{__line__ | count "e"}} {{count "x*" "axb"}}', "4 2 3"),
    ('{{range $q := fromJson .json}}{{end}}{{(index (fromJson .json).a 1).b}} {{fromJson "{"}}', "c <no value>"),
    ('{{printf "%-6.6s|%5s" .user .n}}', "alice |   42"),
]
NUMBERS = [
    (
        "{{add 3 2 5}} {{add}} {{sub 5 2}} {{mul 5 2 3}} {{div 10 3}} {{div -7 2}} {{mod 10 3}} {{mod -7 3}}",
        "10 0 3 30 3 -3 1 -1",
    ),
    ('{{add .n "0x10" "3.0" "3.7" "x" 1.9 true}}', "66"),
    (
        "{{addf 0.1 0.2}} {{subf 5.5 2 1.5}} {{mulf 5.5 2 2.5}} {{divf 10 2 4}} {{divf 1 3}}",
        "0.3 2 27.5 1.25 0.3333333333333333",
    ),
    ("{{max 1 2 3}} {{min 1 2 3}} {{maxf 1 2.5 3}} {{minf 1.5 2.5}}", "3 1 3 1.5"),
    (
        "{{ceil 123.001}} {{floor 123.9999}} {{round 123.555555 3}} {{round 123.88571428571 5 .2}} {{round -2.5 0}}",
        "124 123 123.556 123.88572 -3",
    ),
    (
        '{{int "3"}} {{int 3.9}} {{int "010"}} {{float64 "3.5"}} {{float64 "x"}} {{add 9223372036854775807 1}}',
        "3 3 8 3.5 0 -9223372036854775808",
    ),
    (
        '{{.dur | duration}} {{duration_seconds "1.5ms"}} {{bytes .size}} {{bytes "2 MB"}} {{bytes "1,024"}}',
        "90 0.0015 5120 2e+06 1024",
    ),
    ('{{maxf "-0" 0}} {{minf 0 "-0"}} {{ceil -0.5}} {{int ".5"}} {{int "-."}}', "0 -0 -0 0 0"),
    ('{{upper "ß ŉ é"}} {{lower "ΑΣ İ"}} {{title "ß é.é"}}', "ß ŉ É ασ i ß É.É"),
    ("{{if gt (int .n) 40}}big{{end}} {{len .uni}}", "big 6"),
]
TIMES = [
    ("{{__timestamp__}}", "2021-11-02 10:20:30.123456789 +0000 UTC"),
    ('{{__timestamp__ | date "2006-01-02T15:04:05.00Z-07:00"}}', "2021-11-02T10:20:30.12Z+00:00"),
    (
        "{{__timestamp__ | unixEpoch}} {{unixEpochMillis __timestamp__}} {{unixEpochNanos __timestamp__}}",
        "1635848430 1635848430123 1635848430123456789",
    ),
    ('{{now | date "2006"}} {{date "2006-01-02" 86400}} {{date "15:04" "x"}}', "2023 1970-01-02 22:13"),
    (
        '{{toDate "2006-01-02" "2021-11-02"}} {{toDate "2006" "x"}}',
        "2021-11-02 00:00:00 +0000 UTC 0001-01-01 00:00:00 +0000 UTC",
    ),
    ('{{toDateInZone "2006-01-02 15:04" "Europe/Berlin" "2021-11-02 01:00"}}', "2021-11-02 01:00:00 +0100 CET"),
    (
        '{{unixToTime "1679577215" | date "2006-01-02"}} {{(unixToTime "19000").Year}}',
        "2023-03-23 2022",
    ),
    ("{{__timestamp__.Hour}} {{__timestamp__.Weekday}} {{(__timestamp__.AddDate 0 1 0).Month}}", "10 Tuesday December"),
]


@pytest.mark.parametrize(("source", "expected"), [*TEXT, *NUMBERS, *TIMES])
def test_function_of_loki(source: str, expected: str) -> None:
    assert execute(source) == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{div 1 0}}", "error calling div: runtime error: integer divide by zero"),
        ("{{divf 1 0}}", "decimal division by 0"),
        ('{{addf "NaN" 1}}', "Cannot create a Decimal from"),
        ('{{bytes "x"}}', "cannot convert 'x' to bytes"),
        ('{{duration "x"}}', 'time: invalid duration "x"'),
        ('{{regexReplaceAll "(" "a" "b"}}', "error parsing regexp"),
        ('{{urldecode "%zz"}}', 'invalid URL escape "%zz"'),
        ('{{substr 5 2 "abc"}}', "slice bounds out of range"),
        ('{{repeat -1 "a"}}', "negative Repeat count"),
        ('{{repeat 1000000000 "ab"}}', "characters are too many"),
        ('{{unixToTime "123"}}', "unable to parse time"),
        ('{{trunc .n "abc"}}', "wrong type for value; expected int; got string"),
        ("{{.user.first}}", "can't evaluate field first in type string"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_the_place(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        execute(source)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("1:3: executing <")


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ("{{.a}} {{if .b}}{{.c | upper}}{{else}}{{$.d}}{{end}}", {"a", "b", "c", "d"}),
        ('{{printf "%s" (.a | trim)}} {{(fromJson .j).x}}', {"a", "j"}),
        ("plain {{__line__}}", set()),
        ("{{.}}", None),
        ("{{$}}", None),
        ("{{range .a}}{{.b}}{{end}}", None),
        ('{{define "x"}}{{.c}}{{end}}{{template "x" .}}', None),
    ],
)
def test_the_labels_a_template_reads_are_known(source: str, labels: set[str] | None) -> None:
    assert compile_line_template(source).labels == (None if labels is None else frozenset(labels))


def test_the_time_comes_from_the_caller_or_fails() -> None:
    with pytest.raises(TemplateError, match="there is no time here"):
        compile_line_template("{{now}}").execute({})


@pytest.mark.parametrize(
    "document", ["[" * 51 + "]" * 51, "[" * 5000 + "]" * 5000, "1" + "0" * 400, "NaN", "[1,]", "1 2"]
)
def test_json_that_cannot_be_taken_is_nil(document: str) -> None:
    assert compile_line_template("{{ fromJson .doc }}").execute({"doc": document}) == "<no value>"


def test_json_as_deep_as_is_taken_prints() -> None:
    document = "[" * 50 + "]" * 50
    assert compile_line_template("{{ fromJson .doc }}").execute({"doc": document}) == document
