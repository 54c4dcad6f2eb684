"""Generated templates through ours and through the real text/template: text, or the stage of failure, is the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.core.gotemplate.generator import templates
from tests.core.gotemplate.oracle import build, ours, theirs
from tests.core.gotemplate.test_language import FAILURES, TABLES

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("go") is None, reason="the Go toolchain is not installed"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("oracle"))


def test_the_tables_say_what_go_says(program: Path) -> None:
    rows = [row for table in TABLES.values() for row in table]
    answers = theirs(program, [source for source, _ in rows])
    assert [answer.text for answer in answers] == [expected for _, expected in rows]


def test_the_failures_fail_in_go(program: Path) -> None:
    answers = theirs(program, [source for source, _ in FAILURES])
    assert {answer.stage for answer in answers} == {"run"}


@pytest.mark.parametrize("seed", range(3))
def test_generated_templates_come_out_as_in_go(program: Path, seed: int) -> None:
    sources = templates(seed, 1_500)
    pairs = zip(sources, theirs(program, sources), strict=True)
    differing = [
        (source, mine, real)
        for source, real in pairs
        if ((mine := ours(source)).text, mine.stage) != (real.text, real.stage)
    ]
    assert differing == []
