"""A database whose failure explains the troubles of the services that use it."""

from __future__ import annotations

from engine.actions import load_actions
from engine.response.runbook import load_runbooks
from engine.response.steps import Runbook

TEXT = """
runbooks:
  - name: DatabaseFailure
    match: ['alertname="DatabaseFailure"']
    priority: P1
    group_by: [namespace]
    escalation: [{to: on-call}]
    explains:
      - {match: ['alertname=~"HighLatency|HighErrorRate"'], equal: [namespace]}
      - {match: ['alertname="QueueGrows"', 'severity="warning"'], equal: [namespace, cluster]}
    steps: [{name: tell, escalate: {text: the database is down}}]
  - name: HighLatency
    match: ['alertname="HighLatency"']
    priority: P2
    group_by: [namespace, service]
    escalation: [{to: on-call}]
    steps:
      - name: restart
        ask:
          action: http.request
          target: bridge
          question: Restart?
          params: {method: POST, path: /api/admin/restart}
          on_failure: hand_over
        next: hand_over
      - {name: hand_over, escalate: {text: slow}}
  - name: HighErrorRate
    match: ['alertname="HighErrorRate"']
    priority: P1
    group_by: [namespace, service]
    escalation: [{to: on-call}]
    steps:
      - name: restart
        act: {action: http.request, target: bridge, params: {method: POST, path: /api/admin/restart}}
      - {name: watch, verify: {stabilisation: 10s}, next: end}
"""


def grouped_runbooks() -> list[Runbook]:
    found, problems = load_runbooks(TEXT, "grouped.yml", actions=load_actions())
    assert not problems
    return found


def labels(alertname: str, **more: str) -> dict[str, str]:
    return {"alertname": alertname, "severity": "critical", "namespace": "aureus", **more}


DATABASE = labels("DatabaseFailure", service="postgres")
SLOW = labels("HighLatency", service="bridge")
FAILING = labels("HighErrorRate", service="bridge")
ELSEWHERE = labels("HighLatency", service="bridge", namespace="other")
