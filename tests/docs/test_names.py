"""Names in the documentation are the program's: settings, metrics, log events, reasons, and their defaults."""

from __future__ import annotations

import re
from typing import Any, get_args, get_origin

import msgspec
import pytest
from pydantic import BaseModel

from connectors import discover
from engine.actions import load_actions
from engine.edge.publisher import ConnectorMetrics
from engine.edge.settings import Settings
from engine.edge.settings_sources import LokiPush, RemoteWrite
from engine.edge.telemetry import Telemetry
from engine.response.guardrails import CHECKS
from tests.docs.pages import PROJECT, Piece, codes, inline_code, pages, source_text, table

_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000}
_MANY = {"list": "[]", "dict": ".NAME"}


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every key of the settings with its default, lists as `[]`, named mappings as `NAME`."""
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        out[key] = field.default
        for part in [field.annotation, *get_args(field.annotation)]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                many = _MANY.get(str(getattr(get_origin(field.annotation), "__name__", "")), "")
                out |= _keys(part, f"{key}{many}.")
    return out


KEYS = _keys(Settings)
SECTIONS = {key.partition(".")[0].partition("[")[0] for key in KEYS if "." in key}
SOURCE = source_text()
_DOTTED = [
    piece
    for piece in inline_code()
    if piece.text.partition(".")[0] in SECTIONS and re.fullmatch(r"\w+(\.\w+|\[\])+(: .*)?", piece.text)
]


@pytest.mark.parametrize("piece", _DOTTED, ids=lambda p: f"{p} {p.text}")
def test_a_settings_key_that_is_named_exists(piece: Piece) -> None:
    key = piece.text.partition(":")[0]
    known = key in KEYS or any(name.startswith(f"{key}.") for name in KEYS)
    assert known or f'"{key}"' in SOURCE, f"{piece}: {key} is neither a setting nor a log event nor an action"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_an_environment_variable_that_is_named_stands_for_a_key(page: Any) -> None:
    for name in re.findall(r"\bSENTINEL_([A-Z_]+)\b", page.read_text(encoding="utf-8")):
        assert name.lower().replace("__", ".") in KEYS, f"{page.name}: SENTINEL_{name}"


def test_defaults_in_parentheses_are_the_defaults() -> None:
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for key, number, unit in re.findall(r"`([\w.]+)` \((\d+)(?: (ms|s|min))?\)", text):
            if key in KEYS:
                own_ms = 1_000 if unit and key.endswith("_s") else 1
                found.append(key)
                assert KEYS[key] * own_ms == int(number) * _UNITS_MS.get(unit, 1), f"{page.name}: {key}"
    assert found


@pytest.mark.parametrize(("row", "timing"), [("Loki push", LokiPush()), ("remote write", RemoteWrite())])
def test_the_table_of_sources_has_the_defaults(row: str, timing: LokiPush | RemoteWrite) -> None:
    cells = next(cells for cells in table("docs/architecture.md", "Event time") if cells[0] == row)
    shown = [int(number) * _UNITS_MS[unit] for number, unit in (cell.split() for cell in cells[1:3])]
    assert shown == [timing.lateness_ms, timing.idle_after_ms]


def test_the_table_of_metrics_is_what_the_program_has() -> None:
    telemetry = Telemetry(process_metrics=False)
    ConnectorMetrics(telemetry.registry, telemetry.drops)
    have = {
        family.name + ("_total" if family.type == "counter" else ""): family for family in telemetry.registry.collect()
    }
    shown = {codes(row[0])[0] for row in table("docs/operations.md", "Metrics")}
    assert shown - set(have) == set()
    assert {name for name in set(have) - shown if _is_used(name)} == set()


def _is_used(name: str) -> bool:
    """Whether the program ever touches a metric: one that nothing feeds is not documented."""
    found = re.search(rf"self\.(\w+) = (?:Counter|Gauge|Histogram)\(\s*\"{name}\"", SOURCE)
    return found is not None and re.search(rf"telemetry\.{found[1]}\b|metrics\.{found[1]}\b", SOURCE) is not None


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_metric_that_is_named_exists(page: Any) -> None:
    text = page.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bsentinel_\w+_(?:total|seconds|ms|messages)\b", text)):
        assert f'"{name}"' in SOURCE, f"{page.name}: {name}"


def test_every_log_event_has_its_line_in_the_table() -> None:
    shown = {event for row in table("docs/operations.md", "Log lines") for event in codes(row[0])}
    logged = set(re.findall(r"\blog\.\w+\(\s*\"([a-z_]+\.[a-z_]+|[a-z]+_[a-z]+)\"", SOURCE))
    logged |= set(re.findall(r"\b_?log\.\w+\(\s*\"(\w+)\"", SOURCE))
    conditional = set(re.findall(r"log\.\w+\(\"([\w.]+)\" if \w+ else \"([\w.]+)\"", SOURCE))
    logged |= {name for pair in conditional for name in pair}
    states = {f"alert.{state}" for state in ("pending", "firing", "resolved", "inactive")}
    assert logged - shown == set()
    assert {event for event in shown - logged - states if f'"{event}"' not in SOURCE} == set()


def test_the_table_of_guardrails_is_the_table_of_checks() -> None:
    shown = {codes(row[0])[0] for row in table("docs/runbooks.md", "Guardrails")}
    assert shown == {reason for reason, _ in CHECKS}


def test_the_executors_reasons_are_the_programs() -> None:
    text = (PROJECT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    listed = text.split("The executor has its own list")[1].split("##")[0]
    reasons = [code for code in codes(listed) if re.fullmatch(r"[a-z_]+", code)]
    assert len(reasons) > 15
    assert [reason for reason in reasons if f'"{reason}"' not in SOURCE] == []


def test_the_table_of_actions_has_every_action_its_parameters_and_their_defaults() -> None:
    rows = {codes(row[0])[0]: row[2] for row in table("docs/actions.md", "All actions")}
    assert set(rows) == set(load_actions())
    for name, action in load_actions().items():
        fields = {field.encode_name: field for field in msgspec.structs.fields(action.params)}
        assert set(fields) <= set(codes(rows[name])), name
        for parameter, number in re.findall(r"`(\w+)` \((\d+)\)", rows[name]):
            assert fields[parameter].default == int(number), f"{name}: {parameter}"


def test_every_refusal_of_an_action_is_told_and_every_one_told_of_is_the_programs() -> None:
    shown = {code for row in table("docs/actions.md", "Refusals") for code in codes(row[0])}
    assert shown == set(re.findall(r"\bRefusedError\(\s*\"(\w+)\"", SOURCE))


def test_the_drop_reasons_of_the_connectors_are_told() -> None:
    shown = {code for row in table("docs/operations.md", "Metrics") for code in codes(row[0])}
    text = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    reasons = set(re.findall(r"dropped\[\"(\w+)\"\]|result\.drop\(\"(\w+)\"", SOURCE))
    names = {name for pair in reasons for name in pair if name}
    assert names
    assert [name for name in sorted(names - shown) if f"`{name}`" not in text] == []


def test_every_receiver_path_is_in_the_readme() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [one.path for one in discover() if one.path not in text] == []
