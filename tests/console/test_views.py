"""From the responder's state to what people read."""

from __future__ import annotations

import json

import pytest

from engine.console.views import IncidentLine, command_views, evidence_view, incident_view, timeline_views
from engine.core.messages import Command, Target
from engine.response.audit import AuditRow
from engine.response.model import ActionTaken, AlertSeen, Evidence, IncidentState
from engine.response.record import IncidentRecord

ALERT = AlertSeen(
    fingerprint="f",
    alertname="SignatureFailures",
    rule="bridge/SignatureFailures",
    labels={"job": "bridge"},
    annotations={"summary": "Bridge refuses messages"},
    value="17",
    standing="firing",
    fired_ms=1_000,
    at_ms=1_000,
    window_ms=60_000,
    transition="t",
)


def line(**changes) -> IncidentLine:
    values = {
        "id": 7,
        "title": "Bridge refuses messages",
        "status": "open",
        "waits": "nothing",
        "priority": "P0",
        "severity": "critical",
        "opened_ms": 2_000,
        "updated_ms": 8_000,
        "resolved_ms": None,
        "alert": ALERT,
    }
    return IncidentLine(**{**values, **changes})


@pytest.mark.parametrize(
    ("status", "waits", "shown"),
    [
        ("open", "evidence", "investigating"),
        ("open", "approval", "awaiting approval"),
        ("open", "outcome", "acting"),
        ("open", "verify", "verifying"),
        ("open", "people", "escalated"),
        ("resolved", "nothing", "resolved"),
        ("closed", "people", "closed"),
    ],
)
def test_an_open_incident_is_named_by_what_it_is_doing(status, waits, shown):
    view = incident_view(line(status=status, waits=waits))
    assert view.state == shown
    assert view.is_open == (status == "open")


@pytest.mark.parametrize(
    ("status", "resolved_ms", "closed_ms"), [("open", None, 0), ("resolved", 7_000, 7_000), ("closed", None, 8_000)]
)
def test_an_incident_is_over_when_it_was_resolved_or_closed(status, resolved_ms, closed_ms):
    assert incident_view(line(status=status, resolved_ms=resolved_ms)).closed_ms == closed_ms


@pytest.mark.parametrize(
    ("evidence", "columns", "rows", "note"),
    [
        (Evidence(True, 1, [{"a": "x", "b": 1}, {"b": None}]), ["a", "b"], [["x", "1"], ["", "null"]], ""),
        (Evidence(True, 1, [{"labels": {"job": "b"}, "value": 2.5}]), ["job", "value"], [["b", "2.5"]], ""),
        (Evidence(True, 1), [], [], "no rows"),
        (Evidence(True, 1, status=200, body={"loaded": []}), [], [], 'HTTP 200: {"loaded": []}'),
        (Evidence(False, 1, error="timed out"), [], [], "could not be found out: timed out"),
        (Evidence(True, 1, [{"a": "x"}], truncated=True), ["a"], [["x"]], "there are more rows than are kept or shown"),
        (Evidence(True, 1, [{"a": "x" * 900}]), ["a"], [["x" * 299 + "…"]], ""),
    ],
)
def test_evidence_is_a_table_or_says_what_there_is_instead(evidence, columns, rows, note):
    view = evidence_view("step", {}, evidence)
    assert (view.columns, view.rows, view.note) == (columns, rows, note)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (
            {
                "type": "postgres",
                "database": "bridge",
                "query": "select *\n  from audit_log\n where reason = $1",
                "params": ["ttl"],
            },
            "postgres bridge: select * from audit_log where reason = $1 (ttl)",
        ),
        ({"type": "promql", "query": "up"}, "promql: up"),
        ({"type": "http", "host": "bridge", "path": "/api/admin/keys"}, "http bridge: /api/admin/keys"),
    ],
)
def test_evidence_names_the_question_that_was_asked(query, shown):
    assert evidence_view("step", query, Evidence(True, 1)).question == shown


def test_a_command_is_shown_with_what_became_of_it():
    command = Command("c", 7, "r", "b", "reload", "http.request", Target("http", "bridge"), {"p": 1}, "critical", 1, 2)
    [view] = command_views([ActionTaken(command, 1, 5, "succeeded", "k-7 loaded", 9)])
    assert (view.target, view.status, view.reason, view.issued_ms, view.finished_ms) == (
        "http:bridge",
        "succeeded",
        "k-7 loaded",
        5,
        9,
    )


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("approval.approved", {"decision": "approved", "reason": "accepted"}, "approved (by ada)"),
        ("approval.denied", {"decision": "denied", "reason": "accepted"}, "denied (by ada)"),
        ("approval.first_of_two", {"decision": "approved"}, "approved; another person must agree, too (by ada)"),
        (
            "approval.refused",
            {"decision": "approved", "reason": "already_decided"},
            "approved, which did not count: already decided (by ada)",
        ),
        ("command.succeeded", {"status": "succeeded", "reason": "verified"}, "command succeeded: verified (by ada)"),
        ("incident.acknowledged", {"text": "acknowledged by ada"}, "acknowledged by ada"),
        ("incident.closed", {"text": "closed by ada: a drill"}, "closed by ada: a drill"),
    ],
)
def test_the_timeline_is_in_words_and_names_people_once(kind, data, text):
    row = AuditRow(1, 9, "ada", kind, 7, None, json.dumps(data), "", "")
    state = IncidentState(7, "b", {}, "open", "P0", "critical", 2_000, "f", {"f": ALERT})
    [entry] = timeline_views(IncidentRecord(state, "t", [row], [], []))
    assert entry.text == text


@pytest.mark.parametrize(("actor", "text"), [("responder", "done"), ("executor-1", "done"), ("ada", "done (by ada)")])
def test_the_timeline_names_people_and_stands_in_the_order_things_happened(actor, text):
    later = AuditRow(1, 9, actor, "kind", 7, None, '{"text":"done"}', "", "")
    earlier = AuditRow(2, 9, "responder", "kind", 7, None, '{"text":"first","happened_ms":5}', "", "")
    state = IncidentState(7, "b", {}, "open", "P0", "critical", 2_000, "f", {"f": ALERT})
    shown = timeline_views(IncidentRecord(state, "t", [later, earlier], [], []))
    assert [(entry.at_ms, entry.text) for entry in shown] == [(5, "first"), (9, text)]
