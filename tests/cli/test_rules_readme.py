"""rules/README.md says what the rules and runbooks are, and its settings allow all that they do."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from engine.core.rules import AlertRule
from engine.loading import load
from engine.response.steps import Act, Runbook
from tests.docs.pages import table

RULES = Path(__file__).parents[2] / "rules"
README = RULES / "README.md"
LOADED = load([RULES])
ALERTS = [rule for group in LOADED.groups for rule in group.rules if isinstance(rule, AlertRule)]
ROWS = table("rules/README.md", "The nine alerts")


def acts(runbook: Runbook, *, asks: bool) -> set[str]:
    bodies = [step.body for step in runbook.steps if isinstance(step.body, Act)]
    return {body.action for body in bodies if (body.question is not None) is asks}


def names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+\.\w+)`", cell))


def test_every_runbook_has_its_row() -> None:
    assert [problem for problem in LOADED.problems if problem.severity == "error"] == []
    assert sorted(row[3] for row in ROWS) == sorted(runbook.name for runbook in LOADED.runbooks)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3])
def test_a_row_names_all_that_its_runbook_does_alone_and_all_that_it_asks_about(row: list[str]) -> None:
    [runbook] = [book for book in LOADED.runbooks if book.name == row[3]]
    assert (names(row[4]), names(row[5])) == (acts(runbook, asks=False), acts(runbook, asks=True))


def test_every_alert_has_its_row_with_its_severities() -> None:
    severities: dict[str, set[str]] = defaultdict(set)
    for rule in ALERTS:
        severities[rule.name].add(rule.labels["severity"].source)
    listed: dict[str, set[str]] = {}
    name = ""
    for row in ROWS:
        name = row[0] or name
        listed.setdefault(name, set()).update(row[2].split(", "))
    of_incidents = {alert: found for alert, found in severities.items() if found != {"info"}}
    assert listed == of_incidents
    text = README.read_text()
    assert [alert for alert, found in severities.items() if found == {"info"} and alert not in text] == []


def test_with_the_settings_of_the_page_nothing_is_refused(sentinel):
    [settings] = re.findall(r"```yaml settings\n(.*?)```", README.read_text(), re.DOTALL)
    Path("sentinel.yml").write_text(settings)
    ran = sentinel("check", str(RULES))
    assert (ran.code, ran.err) == (0, "")
