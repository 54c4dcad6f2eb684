"""Problems are shown as a compiler shows them."""

from __future__ import annotations

import pytest

from engine.cli.output import show_problem
from engine.core.diagnostics import Problem

SOURCE = "groups:\n  - name: a\n\trules: x\n"


@pytest.mark.parametrize(
    ("line", "column", "shown"),
    [
        (2, 5, "f.yml:2:5: error: wrong\n 2 |   - name: a\n   |     ^"),
        (3, 2, "f.yml:3:2: error: wrong\n 3 | \trules: x\n   | \t^"),
        (1, 1, "f.yml:1:1: error: wrong\n 1 | groups:\n   | ^"),
        (99, 1, "f.yml:99:1: error: wrong"),
    ],
)
def test_the_line_of_the_source_stands_below_with_a_caret(line, column, shown):
    assert show_problem(Problem("f.yml", line, column, "wrong"), SOURCE) == shown


@pytest.mark.parametrize(("column", "shown"), [(1, "a" * 160 + "…"), (301, "…" + "a" * 80 + "b" + "c" * 79 + "…")])
def test_of_a_long_line_only_what_is_around_the_place_is_shown(column, shown):
    source = "a" * 300 + "b" + "c" * 1000
    _, line, caret = show_problem(Problem("f.yml", 1, column, "wrong"), source).split("\n")
    assert line == f" 1 | {shown}"
    assert line[caret.index("^")] == source[column - 1]


def test_a_problem_of_a_file_that_cannot_be_read_is_still_shown():
    assert show_problem(Problem("/nowhere/f.yml", 1, 1, "there is no such file")) == (
        "/nowhere/f.yml:1:1: error: there is no such file"
    )
