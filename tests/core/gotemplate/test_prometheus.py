"""Alert templates expand as Go's template engine with Prometheus's functions would."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.core.expression import ExpressionError
from engine.core.gotemplate import compile_template

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


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("{{ $labels.job.deeper }}", "can't evaluate field deeper in type string"),
        ("{{ if gt $value 2 }}x{{ end }}", "incompatible types for comparison"),
        ('{{ humanize "abc" }}', "invalid syntax"),
        ("{{ toUpper }}", "wrong number of args"),
    ],
)
def test_what_cannot_be_expanded_says_so_in_the_text(source: str, part: str) -> None:
    text = expand(source)
    assert text.startswith("<error expanding template: ")
    assert part in text


@pytest.mark.parametrize(
    ("source", "part", "place"),
    [
        ("{{ $nope }}", "undefined variable $nope", (1, 4)),
        ("one\n two {{ nope 1 }}", "template function 'nope' is not supported", (2, 9)),
        ('{{ query "up" }}', "template function 'query' is not supported", (1, 4)),
        ("{{ range .Labels }}{{ end }}", "template action range is not supported", (1, 4)),
        ("{{ if $value }}x", "{{if}} has no {{end}}", (1, 4)),
        ("x {{ end }}", "unexpected {{end}}", (1, 6)),
        ("x {{ $value", "unclosed {{", (1, 3)),
        ("{{ }}", "missing value", (1, 1)),
        ("{{ $value | }}", "unexpected 'end of action'", (1, 12)),
        ("{{ $value $value }}", "'$value' is not a function", (1, 4)),
        ("{{ ($value }}", "unexpected", (1, 11)),
        ("{{ $value ! }}", "unexpected '!'", (1, 11)),
    ],
)
def test_refusal_names_what_and_where(source: str, part: str, place: tuple[int, int]) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(source)
    assert part in caught.value.message
    assert (caught.value.line, caught.value.column) == place
