"""Which files below a folder are read as what, and that every problem is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.languages import language_of
from engine.loading import load, load_texts
from tests.e2e.shop import LOGQL, PROMQL, RUNBOOK, write_rules


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("rules/promql/a.yml", "promql"),
        ("rules/logql/a.yml", "logql"),
        ("/etc/loki/rules/a.yml", "logql"),
        ("/etc/prometheus/loki/a.yml", "logql"),
        ("/etc/loki/prometheus/a.yml", "promql"),
        ("a.yml", "promql"),
        ("rules/loki.yml", "promql"),  # a folder says it, not a file
    ],
)
def test_the_nearest_folder_tells_the_language(path: str, language: str) -> None:
    assert language_of(Path(path)) == language


def test_a_folder_gives_its_rules_and_runbooks(tmp_path: Path) -> None:
    loaded = load([write_rules(tmp_path)])
    assert [group.name for group in loaded.groups] == ["shop", "queue"]
    assert [runbook.name for runbook in loaded.runbooks] == ["PaymentsFail"]
    assert loaded.problems == []
    assert sorted(loaded.texts) == ["logql/shop.yml", "promql/queue.yml", "runbooks/shop.yml"]


def test_what_a_bundle_took_along_loads_as_the_files_did(tmp_path: Path) -> None:
    loaded = load([write_rules(tmp_path)])
    again = load_texts(loaded.texts)
    assert [group.key for group in again.groups] == [group.key for group in loaded.groups]
    assert again.problems == []


def test_a_file_can_be_named_itself(tmp_path: Path) -> None:
    put(tmp_path, {"logql/shop.yml": LOGQL, "anywhere/steps.yml": RUNBOOK})
    loaded = load([tmp_path / "logql/shop.yml", tmp_path / "anywhere/steps.yml"])
    assert ([group.name for group in loaded.groups], [one.name for one in loaded.runbooks]) == (
        ["shop"],
        ["PaymentsFail"],
    )


def test_unit_tests_and_other_files_are_no_rules(tmp_path: Path) -> None:
    put(tmp_path, {"promql/queue.yml": PROMQL, "tests/queue.yml": "tests: [", "README.md": "groups: ["})
    loaded = load([tmp_path])
    assert [path.name for path in loaded.tests] == ["queue.yml"]
    assert loaded.problems == []


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    put(tmp_path, {"promql/a.yml": "groups: 5", "logql/b.yml": "groups: 6", "runbooks/c.yml": RUNBOOK})
    put(tmp_path, {"runbooks/d.yml": RUNBOOK})
    (tmp_path / "promql/e.yml").write_bytes(b"\xff")
    told = "\n".join(map(str, load([tmp_path, tmp_path / "nowhere"]).errors))
    for part in ("a.yml", "b.yml", "stands in", "e.yml:1:1: error: cannot be read", "there is no such file or folder"):
        assert part in told


def test_an_empty_folder_is_a_problem(tmp_path: Path) -> None:
    assert [problem.message for problem in load([tmp_path]).errors] == ["there is no rule file below it"]
