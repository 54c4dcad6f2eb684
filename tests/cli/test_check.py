"""`sentinel check` and `sentinel test`: word for word, on good and on broken files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

GOOD = """\
groups:
  - name: aureus
    rules:
      - alert: ConnectionOverload
        expr: sum(openclaw_active_connections) > 1000
        for: 1m
        labels: {severity: warning}
"""
BROKEN = """\
groups:
  - name: aureus
    rules:
      - alert: A
        expr: sum(rate(x[5m])
      - alert: B
        expr: up == 0
        fro: 5m
"""
RULES = Path(__file__).parents[2] / "rules"
DEMO = RULES.parent / "examples" / "aureus" / "rules"


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_good_files_are_counted(sentinel):
    write("rules/promql/a.yml", GOOD)
    ran = sentinel("check")
    assert (ran.code, ran.out, ran.err) == (
        0,
        "1 rule in 1 group, 0 runbooks, 0 test files: 0 errors, 0 warnings\n",
        "",
    )


def test_every_problem_of_every_file_is_shown_with_its_line_and_a_caret(sentinel):
    write("rules/promql/a.yml", BROKEN)
    write("rules/promql/b.yml", "groups: 5\n")
    ran = sentinel("check", "rules")
    assert ran.code == 1
    places = re.findall(r"^(rules/\S+?:\d+:\d+): error", ran.err, re.MULTILINE)
    assert [place.rpartition(":")[0] for place in places] == [
        "rules/promql/a.yml:5",
        "rules/promql/a.yml:8",
        "rules/promql/b.yml:1",
    ]
    assert " 8 |         fro: 5m\n   |         ^\n" in ran.err
    assert ran.out == "0 rules in 0 groups, 0 runbooks, 0 test files: 3 errors, 0 warnings\n"


def test_problems_as_json_have_file_line_and_column(sentinel):
    write("rules/promql/b.yml", "groups: 5\n")
    ran = sentinel("check", "--json")
    assert ran.code == 1
    answer = json.loads(ran.out)
    assert answer["ok"] is False
    [problem] = answer["problems"]
    assert (problem["file"], problem["line"], problem["severity"]) == ("rules/promql/b.yml", 1, "error")


def test_a_path_that_is_not_there_is_an_error(sentinel):
    ran = sentinel("check", "nowhere")
    assert ran.code == 1
    assert ran.err == "nowhere:1:1: error: there is no such file or folder\n"


def test_the_products_own_rules_are_free_of_errors(sentinel):
    ran = sentinel("check", str(RULES))
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize("path", [RULES, RULES / "tests", DEMO])
def test_the_products_own_tests_pass(sentinel, path):
    ran = sentinel("test", str(path))
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(r"(\d+) cases: \1 passed, 0 failed \(\d+\.\d s\)\n", ran.out)


def test_a_case_that_goes_otherwise_is_shown_where_it_was_expected(sentinel):
    text = (DEMO / "tests" / "runbooks_test.yml").read_text()
    changed, count = re.subn(r"resolution: verified", "resolution: cleared", text, count=1)
    assert count == 1
    for file in (DEMO / "runbooks").glob("*.yml"):
        write(f"rules/runbooks/{file.name}", file.read_text())
    write("rules/tests/runbooks_test.yml", changed)
    ran = sentinel("test", "rules/tests/runbooks_test.yml")
    assert ran.code == 1
    line = changed[: changed.index("resolution: cleared")].count("\n") + 1
    assert ran.err.startswith(f"rules/tests/runbooks_test.yml:{line}:")
    assert " 1 failed" in ran.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "rules/tests/x.yml:1:5: error: not valid YAML"),
        ("other: []\n", "rules/tests/x.yml:1:1: error: holds no test"),
        ("runbook_tests: []\n", "there is no test to run"),
    ],
)
def test_a_test_file_without_a_test_is_not_a_success(sentinel, text, said):
    write("rules/promql/a.yml", GOOD)
    write("rules/tests/x.yml", text)
    ran = sentinel("test")
    assert ran.code == 1
    assert said in ran.err
