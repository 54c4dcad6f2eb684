"""The whole topology on one page: what flows where, and which role does what.

```
Prometheus, Loki, exporters            connectors        wire format -> typed batch
   | remote write, push, tail, scrape, query             (alerts that others raise go to `alerts` at once)
   v
 metrics, logs              (key = source)
   v
 router                                core.router       keep what some rule asks for, address it to the rule's shard
   v
 rule-inputs                (key = rule shard)
   v
 evaluator ---> recorded               core.step         event-time windows -> PromQL / LogQL -> alert state
   v
 alerts                     (key = alert fingerprint)
   v
 responder                             response          incident -> runbook -> guardrails -> next command
   v                              ^
 commands  (key = target)         | outcomes (key = incident)
   v                              |
 executor                              actions           verify -> claim -> plan -> run -> outcome
```

What people are to hear of, the responder writes to the database; `notifier` delivers it and takes their answers.
Where other systems are to be told, `sinks` reads `alerts` for Alertmanagers and `recorded` for remote write.

Whatever cannot be decoded goes to `dead-letter`, with the reason and its bytes. Every role is one Faust application
with its own consumer group, so that one process can host them all or each can be a deployment of its own; where they
run changes nothing else. `engine.edge.roles` gives each role its hands.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

RoleName = Literal["connectors", "router", "evaluator", "responder", "executor", "notifier", "console", "sinks"]


class Topic(Struct, frozen=True):
    """A Kafka topic. `key` says what its messages are keyed by; equal keys stay in order."""

    name: str
    key: str
    compacted: bool = False


METRICS = Topic("metrics", key="source")
LOGS = Topic("logs", key="source")
RULE_INPUTS = Topic("rule-inputs", key="rule shard")
ALERTS = Topic("alerts", key="alert fingerprint")
RECORDED = Topic("recorded", key="rule group")  # what recording rules gave, for other systems
COMMANDS = Topic("commands", key="target")
OUTCOMES = Topic("outcomes", key="incident")
DEAD_LETTER = Topic("dead-letter", key="topic it came from")
# The evaluator's table: alert states, and how far they are worked out. Faust makes up the name.
RULE_STATE = Topic("evaluator-rule-state-changelog", key="rule shard", compacted=True)

TOPICS = (METRICS, LOGS, RULE_INPUTS, ALERTS, RECORDED, COMMANDS, OUTCOMES, DEAD_LETTER, RULE_STATE)


class Role(Struct, frozen=True):
    """A part of Sentinel that can be a deployment of its own."""

    name: RoleName
    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...]
    database: bool


ROLES = {
    role.name: role
    for role in (
        Role("connectors", reads=(), writes=(METRICS, LOGS, ALERTS, DEAD_LETTER), database=False),
        Role("router", reads=(METRICS, LOGS), writes=(RULE_INPUTS, DEAD_LETTER), database=False),
        Role(
            "evaluator",
            reads=(RULE_INPUTS, RULE_STATE),
            writes=(ALERTS, RECORDED, RULE_STATE, DEAD_LETTER),
            database=False,
        ),
        Role("responder", reads=(ALERTS, OUTCOMES), writes=(COMMANDS, DEAD_LETTER), database=True),
        Role("executor", reads=(COMMANDS,), writes=(OUTCOMES, DEAD_LETTER), database=True),
        Role("notifier", reads=(), writes=(), database=True),
        Role("console", reads=(), writes=(), database=True),
        Role("sinks", reads=(ALERTS, RECORDED), writes=(DEAD_LETTER,), database=False),
    )
}
