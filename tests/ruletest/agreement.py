"""One alerting rule against promtool: our states of a scenario become expectations, and promtool judges them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as parser

from engine.core import duration
from engine.core.rules import parse_rules
from engine.languages import with_step
from engine.ruletest import CaseResult, read_tests, run_tests
from tests.ruletest.scenario import Scenario

ATTEMPTS = 8


@dataclass(frozen=True)
class Trial:
    """A rule file of one rule and the test file that says what our rules engine makes of it."""

    name: str
    rules: str
    tests: str
    firing: int
    pending: int
    states: int


def trial_of(rule: dict[str, Any], name: str) -> Trial:
    """The scenario, out of some, in which the rule fires and does most. Annotations are left out."""
    kept = {key: rule[key] for key in ("alert", "expr", "for", "keep_firing_for", "labels") if key in rule}
    rules = json.dumps({"groups": [{"name": "g", "rules": [kept]}]}, indent=1)
    for_s = duration.parse_ms(str(rule.get("for", "0s"))) / 1000
    best: Trial | None = None
    for seed in range(ATTEMPTS):
        scenario = Scenario(str(rule["expr"]), for_s, seed)
        found = _trial(scenario, rules, str(rule["alert"]), name)
        if best is None or (found.firing > 0, found.states) > (best.firing > 0, best.states):
            best = found
        if best.firing and best.states > 2:
            break
    assert best is not None
    return best


def _trial(scenario: Scenario, rules: str, alert: str, name: str) -> Trial:
    document = _document(scenario, alert, f"{name}.rules.yml")
    results = answer(document, rules, scenario.pace.every_s)
    [test] = document["tests"]
    firing = sum(len(question["exp_alerts"]) for question in test["alert_rule_test"])
    pending = sum('alertstate="pending"' in text for result in results for text in result.got)
    states = len({tuple(result.got) for result in results})
    return Trial(name, rules, json.dumps(document, indent=1), firing, pending, states)


def _document(scenario: Scenario, alert: str, file: str) -> dict[str, Any]:
    test = {
        "interval": f"{scenario.pace.spacing_s}s",
        "input_series": list(scenario.series()),
        "alert_rule_test": [
            {"eval_time": f"{at_s}s", "alertname": alert, "exp_alerts": []} for at_s in scenario.times_s
        ],
        "promql_expr_test": [
            {"eval_time": f"{at_s}s", "expr": "ALERTS", "exp_samples": []} for at_s in scenario.times_s
        ],
    }
    return {"rule_files": [file], "evaluation_interval": f"{scenario.pace.every_s}s", "tests": [test]}


def answer(document: dict[str, Any], rules: str, every_s: int) -> list[CaseResult]:
    """Write what our rules engine finds into the questions of a test file of one test; returns the results."""
    languages = with_step(every_s * 1000)
    groups, problems = parse_rules(rules, "rules.yml", languages["promql"])
    tests, more = read_tests(json.dumps(document), "test.yml")
    assert not [*problems, *more], [*problems, *more]
    assert tests is not None
    results = run_tests(tests, groups, languages)
    [test] = document["tests"]
    for question, result in zip([*test["alert_rule_test"], *test["promql_expr_test"]], results, strict=True):
        if "exp_alerts" in question:
            question["exp_alerts"] = [{"exp_labels": _labels(text)} for text in result.got]
        else:
            question["exp_samples"] = [_sample(text) for text in result.got]
    return results


def _labels(text: str) -> dict[str, str]:
    tree: Any = parser.parse(text)
    return {matcher.name: matcher.value for matcher in tree.matchers.matchers}


def _sample(text: str) -> dict[str, Any]:
    labels, _, value = text.rpartition(" ")
    return {"labels": labels, "value": float(value)}


def write(trial: Trial, folder: Path) -> Path:
    """Put both files into a folder; returns the test file."""
    test = folder / f"{trial.name}.yml"
    (folder / f"{trial.name}.rules.yml").write_text(trial.rules, encoding="utf-8")
    test.write_text(trial.tests, encoding="utf-8")
    return test
