"""Alert templates expand as Go's template engine with Prometheus's functions would."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.core.gotemplate import compile_template
from engine.core.gotemplate.values import TemplateError

LABELS = {"job": "bridge", "instance": "host:9090", "quote": 'say "hi"'}


def expand(source: str, value: float = 2.5) -> str:
    return compile_template(source).expand(LABELS, value, {"region": "eu"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain text", "plain text"),
        ("{{ $labels.job }} down", "bridge down"),
        ("{{$labels.job}}", "bridge"),
        ("{{ .Labels.job }}/{{ .Value }}/{{ .ExternalLabels.region }}", "bridge/2.5/eu"),
        ("{{ $externalLabels.region }}", "eu"),
        ('{{ index $labels "job" }}', "bridge"),
        ("{{ $labels.missing }}", ""),
        ("{{ $labels }}", 'map[instance:host:9090 job:bridge quote:say "hi"]'),
        ('{{ printf "%.2f%%" $value }}', "2.50%"),
        ('{{ $value | printf "%.0f" }}', "2"),
        ('{{ printf "%5.1f|%-6s|%q" $value $labels.job "x" }}', '  2.5|bridge|"x"'),
        ('{{ printf "%d" $value }}', "%!d(float64=2.5)"),
        ('{{ printf "%s %s" "a" }}', "a %!s(MISSING)"),
        ('{{ printf "a" "b" }}', "a%!(EXTRA string=b)"),
        ("{{ $labels.job | toUpper }} {{ $labels.job | title }}", "BRIDGE Bridge"),
        ('{{ reReplaceAll "(.*):.*" "$1" $labels.instance }}', "host"),
        ('{{ if match "^bri" $labels.job }}yes{{ else }}no{{ end }}', "yes"),
        ("{{ if gt $value 2.0 }}high{{ else }}low{{ end }}", "high"),
        ('{{ if eq $labels.job "x" "bridge" }}a{{ else if $value }}b{{ end }}', "a"),
        ('{{ if and (lt $value 1.0) true }}a{{ else if eq $labels.job "bridge" }}b{{ else }}c{{ end }}', "b"),
        ("{{ with $labels.missing }}x{{ else }}none{{ end }}", "none"),
        ("{{ with $labels.job }}<{{ . }}>{{ end }}", "<bridge>"),
        ("{{ $x := $labels.job }}{{ $x }}!", "bridge!"),
        ("a {{- /* gone */ -}} b", "ab"),
        ('a  {{- " - " -}}  b', "a - b"),
        ('{{ "}}" }}', "}}"),
        ("{{ `raw\\n` }}", "raw\\n"),
    ],
)
def test_template(source: str, expected: str) -> None:
    assert expand(source) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3.0, "3"),
        (0.1, "0.1"),
        (123456.0, "123456"),
        (1234567.0, "1.234567e+06"),
        (1e-5, "1e-05"),
        (math.inf, "+Inf"),
        (math.nan, "NaN"),
        (0.0, "0"),
        (-2.5, "-2.5"),
        (np.float64(2.5), "2.5"),
    ],
)
def test_value_prints_as_go_prints_a_float(value: float, expected: str) -> None:
    assert expand("{{ $value }}", value) == expected


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        ("humanize", 0.0, "0"),
        ("humanize", 1234567.0, "1.235M"),
        ("humanize", 0.0042, "4.2m"),
        ("humanize", math.inf, "+Inf"),
        ("humanize1024", 1048576.0, "1Mi"),
        ("humanize1024", 0.5, "0.5"),
        ("humanizeDuration", 0.0, "0s"),
        ("humanizeDuration", 0.25, "250ms"),
        ("humanizeDuration", 59.9, "59.9s"),
        ("humanizeDuration", 3661.0, "1h 1m 1s"),
        ("humanizeDuration", -90061.0, "-1d 1h 1m 1s"),
        ("humanizePercentage", 0.1234, "12.34%"),
        ("humanizeTimestamp", 1435065584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
    ],
)
def test_humanize(function: str, value: float, expected: str) -> None:
    assert expand(f"{{{{ $value | {function} }}}}", value) == expected


ROWS = [({"job": "b", "__value__": "1"}, 2.0), ({"job": "a"}, 1.0)]


def answer(text: str) -> list[tuple[dict[str, str], float]]:
    if text == "down":
        raise TemplateError("the database is down")
    return ROWS if text == "up" else []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{{ query "up" | first | value }}', "2"),
        ('{{ query "up" | first | label "job" }}', "b"),
        ('{{ query "up" | first | strvalue }}', "1"),
        ('{{ range query "up" | sortByLabel "job" }}{{ .Labels.job }}={{ .Value }} {{ end }}', "a=1 b=2 "),
        ('{{ with query "none" }}some{{ else }}none{{ end }}', "none"),
        ('{{ (args 1 "x").arg1 }}', "x"),
        ('{{ define "row" }}[{{ . }}]{{ end }}{{ tmpl "row" "x" }}', "[x]"),
        ('{{ stripPort "a.example:90" }} {{ stripPort "[::1]:90" }} {{ stripPort "::1" }}', "a.example ::1 ::1"),
        ('{{ stripDomain "a.b.c:90" }} {{ stripDomain "a.b" }} {{ stripDomain "10.0.0.1:90" }}', "a:90 a 10.0.0.1:90"),
        ('{{ parseDuration "1h30m" }} {{ parseDuration "-1m" }} {{ toDuration 90 }}', "5400 -60 1m30s"),
        ("{{ toDuration 7200.5 | humanizeDuration }} {{ (toDuration -1).Seconds }}", "2h 0m 0s -1"),
        ("{{ now }} {{ (toTime now).Year }}", "1.7e+09 2023"),
        ('{{ title "don\'t a.b foo-bar 1ab IT" }}', "Don't A.b Foo-Bar 1Ab IT"),
        (
            "{{ pathPrefix }} {{ externalURL }} {{ $externalURL }} {{ .ExternalURL }}",
            "/p http://h/p http://h/p http://h/p",
        ),
        ('{{ graphLink "up > 1" }}', "/graph?g0.expr=up+%3E+1&g0.tab=0"),
        ('{{ tableLink "up" }}', "/graph?g0.expr=up&g0.tab=1"),
        ('{{ safeHtml "<b>" }} {{ urlQueryEscape "a b/c" }}', "<b> a+b%2Fc"),
        ('{{ slice "é" 0 1 }}{{ slice "é" 1 2 }} {{ slice "é" 0 1 }}', "é \ufffd"),
    ],
)
def test_function_of_prometheus(source: str, expected: str) -> None:
    template = compile_template(source)
    text = template.expand(LABELS, 2.5, external_url="http://h/p", query=answer, now_ms=1_700_000_000_000)
    assert text == expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "a\n {{ $labels.job.deeper }}",
            "2:5: executing <$labels.job.deeper>: can't evaluate field deeper in type string",
        ),
        ("{{ if gt $value 2 }}x{{ end }}", "incompatible types for comparison: float64 and int"),
        ('{{ humanize "abc" }}', 'parsing "abc": invalid syntax'),
        ("{{ toUpper }}", "wrong number of args for toUpper: want 1 got 0"),
        ('{{ query "none" | first }}', "first() called on vector with no elements"),
        ('{{ query "down" }}', "error calling query: the database is down"),
        ('{{ define "r" }}{{ template "r" }}{{ end }}{{ template "r" }}', "exceeded maximum template depth (50)"),
        ("{{ range 1000000000 }}x{{ end }}", "range over 1000000000 is too long (the most is 100000)"),
        ("{{ humanizeTimestamp 1e30 }}", "cannot be represented as a nanoseconds timestamp"),
    ],
)
def test_what_cannot_be_expanded_says_so_in_the_text(source: str, reason: str) -> None:
    text = compile_template(source).expand(LABELS, 2.5, query=answer)
    assert text.startswith("<error expanding template: ")
    assert reason in text


@pytest.mark.parametrize("source", ['{{ query "up" }}', "{{ now }}"])
def test_what_the_caller_does_not_give_fails_the_expansion(source: str) -> None:
    assert "there is no" in expand(source)
