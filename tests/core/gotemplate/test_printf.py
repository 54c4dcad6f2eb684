"""printf beside Python's own formatting, where the two agree, and properties that hold for any template."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.expression import ExpressionError
from engine.core.gotemplate.loki import compile_line_template
from engine.core.gotemplate.numerals import format_float, parse_float, parse_int
from engine.core.gotemplate.printf import sprintf
from engine.core.gotemplate.quoting import quote, unquote
from engine.core.gotemplate.values import TemplateError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHORT_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(FINITE, st.sampled_from("+ "), st.integers(0, 20), st.integers(0, 12), st.sampled_from("feEgG"))
def test_floats_as_python_prints_them(value: float, sign: str, width: int, precision: int, verb: str) -> None:
    form = f"%{sign}{width or ''}.{precision}{verb}"
    assert sprintf(form, [value]) == form % value


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "-", "+", " ", "0"]), st.integers(1, 25))
def test_integers_as_python_prints_them(value: int, flag: str, width: int) -> None:
    for verb in "dxXo":
        form = f"%{flag}{width}{verb}"
        assert sprintf(form, [value]) == form % value


@given(SHORT_TEXT, st.integers(1, 20), st.integers(0, 15))
def test_text_as_python_prints_it(value: str, width: int, precision: int) -> None:
    for form in ("%s", f"%{width}s", f"%-{width}s", f"%{width}.{precision}s"):
        assert sprintf(form, [value]) == form % value


@given(FINITE)
def test_the_shortest_float_reads_back(value: float) -> None:
    for verb in "eEfgGxX":
        assert parse_float(format_float(value, verb)) == value


@given(st.binary(max_size=20))
def test_quoted_text_reads_back_whatever_its_bytes(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    assert unquote(quote(text)) == text
    assert unquote(quote(text, ascii_only=True)) == text
    assert quote(text, ascii_only=True).isascii()


@given(st.integers(0, 2**63 - 1))
def test_integer_literals_in_every_base(value: int) -> None:
    for text in (str(value), hex(value), oct(value), bin(value), f"{value:_}", f"0{value:o}"):
        assert parse_int(text) == value


@given(st.text("{}-/*$.|()=:,\"`'abc019 \n%", max_size=40))
def test_any_text_is_a_template_or_refused_with_a_place_inside_it(source: str) -> None:
    try:
        template = compile_line_template(source)
    except ExpressionError as error:
        refusal = error
    else:
        with suppress(TemplateError):
            template.execute({"a": "b"})
        return
    lines = source.split("\n")
    assert 1 <= refusal.line <= len(lines)
    assert 1 <= refusal.column <= len(lines[refusal.line - 1]) + 1


@given(SHORT_TEXT)
def test_text_without_braces_stays_as_it_is(text: str) -> None:
    plain = text.replace("{", "")
    assert compile_line_template(plain).execute({}) == plain


@given(
    st.recursive(
        st.none() | st.booleans() | SHORT_TEXT, lambda inner: st.lists(inner) | st.dictionaries(SHORT_TEXT, inner)
    )
)
def test_json_prints_without_failing(document: object) -> None:
    labels = {"doc": json.dumps(document)}
    text = compile_line_template("{{ fromJson .doc }}").execute(labels)
    assert (
        compile_line_template("{{ range $k, $v := fromJson .x }}{{ end }}{{ fromJson .doc }}").execute(labels) == text
    )


@pytest.mark.parametrize("form", ["%[1]d %d", "100%% %d", "%d%%d", "%5.1f%%", "%"])
def test_percent_signs_are_told_from_verbs(form: str) -> None:
    expected = {"%[1]d %d": "7 %!d(MISSING)", "100%% %d": "100% 7", "%d%%d": "7%d", "%": "%!(NOVERB)%!(EXTRA int=7)"}
    assert sprintf(form, [7]) == expected.get(form, "%!f(int=    7)%")
