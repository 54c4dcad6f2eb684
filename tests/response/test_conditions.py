"""CEL and Jinja, fenced in."""

from __future__ import annotations

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.response.conditions import RenderError, TextError, condition, template


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("labels.a == 'x'", {"labels"}),
        ("found.rows.map(r, r.n + extra)", {"found", "extra"}),
        ("a.exists(x, b.exists(y, x == y))", {"a", "b"}),
        ("'.map(q, q)' == a", {"a"}),
        ("1 + 1 == 2", set()),
    ],
)
def test_the_names_a_condition_needs_are_known_before_it_runs(text: str, names: set[str]) -> None:
    assert condition(text).names() == names


def test_a_mistake_has_its_place() -> None:
    with pytest.raises(TextError) as caught:
        condition("a ==\n b +")
    assert (caught.value.line, caught.value.column) == (2, 5)


@pytest.mark.parametrize("text", ["rows[0].n > 1", "missing.x", "'a' + 1 == 2", "1"])
def test_a_condition_without_a_truth_value_is_an_error_and_never_false(text: str) -> None:
    with pytest.raises(RenderError):
        condition(text).holds({"rows": [], "missing": {}})


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ labels.clear() }}",
        "{{ labels.nothing }}",
        "{{ range(10000000) | list }}",
        "{{ 1 // 0 }}",
        "{{ 'x' * 20000 }}",
    ],
)
def test_a_text_cannot_leave_its_sandbox(text: str) -> None:
    with pytest.raises(RenderError):
        template(text).render({"labels": {"a": "b"}})


def test_what_a_label_says_is_never_a_template() -> None:
    assert template("{{ labels.a }}").render({"labels": {"a": "{{ 7 * 7 }}"}}) == "{{ 7 * 7 }}"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_quoted_for_cel_is_that_text(value: str) -> None:
    quoted = template("{{ v | cel }}").render({"v": value})
    assert cel.compile(f"{quoted} == v").execute({"v": value}) is True


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_as_a_segment_of_a_path_stays_one_segment(value: str) -> None:
    out = template("{{ v | segment }}").render({"v": value})
    assert not set(out) & set("/?#\\ \n")
