"""Ten broken files, ten precise errors. Each file says in its first line what must be said about it, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(BROKEN.rglob("*.yml"), key=lambda path: path.name)


def expected(path: Path) -> tuple[str, str]:
    place, _, message = path.read_text().splitlines()[0].removeprefix("# expect ").partition(" ")
    return f"{path}:{place}: error: ", message


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_broken_file_is_refused_at_the_very_place(sentinel, path):
    found = sentinel("check", str(path))
    place, message = expected(path)
    said = [line for line in found.err.splitlines() if line.startswith(str(path))]
    assert found.code == 1
    assert len(said) == 1
    assert said[0].startswith(place)
    assert message in said[0]


def test_all_ten_are_said_at_once(sentinel):
    found = sentinel("check", str(BROKEN))
    assert found.code == 1
    assert len(FILES) == 10
    for path in FILES:
        place, message = expected(path)
        assert any(line.startswith(place) and message in line for line in found.err.splitlines()), found.err
