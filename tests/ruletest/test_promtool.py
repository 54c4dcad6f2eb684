"""Rules people use, through their states, promtool beside us: it must find every state at every step as we did.

Each alerting rule of the corpus gets a scenario (`scenario`), our states of it are written down as expectations, of
firing alerts and of `ALERTS`, and `promtool test rules` says whether it agrees.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.promql import ROOT
from tests.parts import require
from tests.ruletest.agreement import Trial, answer, trial_of, write

pytestmark = pytest.mark.real

FOLDER = Path(os.environ.get("SENTINEL_CONFORMANCE", ROOT.parent / "shared" / "conformance")) / "alerting-rules"
FILES = sorted(FOLDER.glob("*.yml"))
FIRING_SHARE = 0.94


def rules_of(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The alerting rules of a file, each with a name of its own."""
    groups = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"] or () if "alert" in rule]
    yield from ((re.sub(r"\W", "_", f"{number}_{rule['alert']}"), rule) for number, rule in enumerate(rules))


def verdicts(promtool: Path, folder: Path, names: list[str]) -> dict[str, str]:
    """What promtool says of each test file: nothing if all holds, else its difference."""
    done = subprocess.run(  # noqa: S603  # our parts
        [str(promtool), "test", "rules", *names],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = [block.strip().partition("\n") for block in done.stdout.split("Unit Testing:")[1:]]
    return {name.strip(): "" if rest.strip() == "SUCCESS" else rest for name, _, rest in said}


@pytest.fixture(scope="module")
def trials() -> dict[str, list[Trial]]:
    """All trials of the run so far, by rule file."""
    return {}


@pytest.mark.skipif(not FILES, reason="no conformance data; set SENTINEL_CONFORMANCE")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_promtool_finds_every_state_of_every_rule_as_we_do(
    file: Path, tmp_path: Path, trials: dict[str, list[Trial]]
) -> None:
    promtool = require("prometheus") / "promtool"
    own = [trial_of(rule, name) for name, rule in rules_of(file)]
    trials[file.stem] = own
    found = verdicts(promtool, tmp_path, [write(trial, tmp_path).name for trial in own])
    assert found == {f"{trial.name}.yml": "" for trial in own}


@pytest.mark.skipif(not FILES, reason="no conformance data; set SENTINEL_CONFORMANCE")
def test_the_scenarios_make_nearly_all_rules_fire(
    trials: dict[str, list[Trial]], capsys: pytest.CaptureFixture[str]
) -> None:
    if len(trials) < len(FILES):
        pytest.skip("not every rule file was tried")
    every = [trial for own in trials.values() for trial in own]
    fired, pending = sum(trial.firing > 0 for trial in every), sum(trial.pending > 0 for trial in every)
    with capsys.disabled():
        print(f"\n{len(every)} rules: {fired} fired ({fired / len(every):.1%}), {pending} were pending at some step")
    assert fired / len(every) >= FIRING_SHARE


RECORDING = """
groups:
  - name: reads
    rules:
      - {record: doubled, expr: 'total * 2', labels: {team: b}}
      - {alert: High, expr: 'doubled > 6', for: 2m, labels: {severity: page}}
      - {alert: Paging, expr: 'count(ALERTS{alertname="High", alertstate="firing"}) > 0'}
  - name: records
    rules:
      - {record: total, expr: sum(x) + 0.1, labels: {team: a}}
      - {record: earlier, expr: 'last_over_time(doubled[85s])'}
"""


@pytest.mark.parametrize("order", [["records", "reads"], ["reads", "records"]])
@pytest.mark.parametrize(("every_s", "interval_s"), [(60, 61), (60, 23), (30, 97)])
def test_promtool_sees_recorded_series_and_alerts_as_we_do_in_either_order_of_groups(
    order: list[str], every_s: int, interval_s: int, tmp_path: Path
) -> None:
    asked = [
        {"expr": expr, "eval_time": f"{at_s}s", "exp_samples": []}
        for at_s in range(0, 1500, 25)  # also between evaluations, and after the last sample
        for expr in ("x", "total", "doubled", "earlier", '{__name__=~"ALERTS.*"}', "count_over_time(total[5m1s:])")
    ]
    test = {
        "interval": f"{interval_s}s",
        "input_series": [
            {"series": 'x{i="1"}', "values": "_ 2 3+0.1x5 stale _x2 4 0x3 5+1x60"},
            {"series": 'x{i="2"}', "values": "_x3 0.7x8 stale 2"},
        ],
        "alert_rule_test": [
            {"eval_time": f"{at_s}s", "alertname": name, "exp_alerts": []}
            for at_s in range(0, 1500, 25)
            for name in ("High", "Paging")
        ],
        "promql_expr_test": asked,
    }
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{every_s}s",
        "group_eval_order": order,
        "tests": [test],
    }
    results = answer(document, RECORDING, every_s)
    assert sum(bool(result.got) for result in results) > len(results) / 4
    (tmp_path / "rules.yml").write_text(RECORDING, encoding="utf-8")
    (tmp_path / "test.yml").write_text(json.dumps(document, indent=1), encoding="utf-8")
    assert verdicts(require("prometheus") / "promtool", tmp_path, ["test.yml"]) == {"test.yml": ""}


def test_promtool_objects_when_a_state_is_another(tmp_path: Path) -> None:
    promtool = require("prometheus") / "promtool"
    trial = trial_of({"alert": "Down", "expr": "up == 0", "for": "2m"}, "down")
    assert trial.firing
    assert trial.pending
    test = write(trial, tmp_path)
    assert verdicts(promtool, tmp_path, [test.name]) == {test.name: ""}
    test.write_text(trial.tests.replace('alertstate=\\"firing\\"', 'alertstate=\\"pending\\"', 1), encoding="utf-8")
    assert 'expr: "ALERTS"' in verdicts(promtool, tmp_path, [test.name])[test.name]
