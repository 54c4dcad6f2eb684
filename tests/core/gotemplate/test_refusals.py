"""What Go's parser refuses is refused when the rule is loaded, with line and column."""

from __future__ import annotations

import pytest

from engine.core.expression import ExpressionError
from engine.core.gotemplate import compile_template
from engine.core.gotemplate.loki import compile_line_template

REFUSED = [
    # names
    ("{{ $nope }}", "undefined variable $nope", (1, 4)),
    ("one\n two {{ nope 1 }}", "template function 'nope' is not defined", (2, 9)),
    ('{{ define "a" }}{{ $labels }}{{ end }}', "undefined variable $labels", (1, 20)),
    ("{{ if true }}{{ $x := 1 }}{{ end }}{{ $x }}", "undefined variable $x", (1, 39)),
    # branches
    ("{{ if $value }}x", "{{if}} has no {{end}}", (1, 4)),
    ("x {{ end }}", "unexpected {{end}}", (1, 6)),
    ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "expected {{end}}; found {{else}}", (1, 24)),
    ("{{ if 1 }}{{ else with 1 }}{{ end }}", "{{else with}} in {{if}}", (1, 19)),
    ("{{ break }}", "{{break}} outside {{range}}", (1, 4)),
    ("{{ range 3 }}{{ else }}{{ continue }}{{ end }}", "{{continue}} outside {{range}}", (1, 27)),
    ('{{ range 3 }}{{ block "b" . }}{{ break }}{{ end }}{{ end }}', "{{break}} outside {{range}}", (1, 34)),
    ('{{ if 1 }}{{ define "x" }}{{ end }}{{ end }}', "unexpected 'define' in command", (1, 14)),
    ('{{ define "x" }}1{{ end }}{{ define "x" }}2{{ end }}', "template 'x' is defined twice", (1, 30)),
    ("{{ template x }}", "unexpected 'x' in template clause", (1, 13)),
    # pipelines
    ("{{ }}", "missing value for command", (1, 4)),
    ("{{ if }}{{ end }}", "missing value for if", (1, 7)),
    ("{{ 1 | 2 }}", "non executable command in pipeline stage 2", (1, 8)),
    ("{{ ($value }}", "unclosed left paren", (1, 12)),
    ("{{ 1) }}", "unexpected right paren", (1, 5)),
    ("{{ $value ! }}", "unexpected '!' in operand", (1, 11)),
    ('{{ print "a""b" }}', "unexpected '\"b\"' in operand", (1, 13)),
    ('{{ "x".y }}', "unexpected . after term", (1, 4)),
    ("{{ range $i, $j, $k := 3 }}{{ end }}", "too many declarations in range", (1, 16)),
    ("{{ $i, $j := 3 }}", "too many declarations in command", (1, 6)),
    ("{{ " + "(" * 101 + "1" + ")" * 101 + " }}", "nested too deeply", (1, 104)),
    # signs
    ("x {{ $value", "unclosed action", (1, 3)),
    ("{{/* x", "unclosed comment", (1, 1)),
    ("{{/* x */ }}", "comment ends before closing delimiter", (1, 10)),
    ('{{ "abc }}', "unterminated quoted string", (1, 4)),
    ("{{ `abc }}", "unterminated raw quoted string", (1, 4)),
    ("{{ 'ab' }}", "malformed character constant", (1, 4)),
    (r'{{ "\z" }}', "bad string literal", (1, 4)),
    ("{{ 1x }}", "bad number syntax", (1, 4)),
    ("{{ 1e }}", "illegal number syntax", (1, 4)),
    ("{{ 99999999999999999999 }}", "integer overflow", (1, 4)),
    ("{{ .a! }}", "bad character '!'", (1, 6)),
    ("{{ \x00 }}", "unrecognized character in action", (1, 4)),
    ("{{ $x: 1 }}", "expected :=", (1, 6)),
]


@pytest.mark.parametrize(("source", "part", "place"), REFUSED)
def test_refusal_names_what_and_where(source: str, part: str, place: tuple[int, int]) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_template(source)
    assert part in caught.value.message
    assert (caught.value.line, caught.value.column) == place


@pytest.mark.parametrize("name", ["humanize", "query", "reReplaceAll"])
def test_log_lines_have_loki_functions_and_not_those_of_alerts(name: str) -> None:
    with pytest.raises(ExpressionError, match=f"function '{name}' is not defined"):
        compile_line_template(f"{{{{ {name} }}}}")
