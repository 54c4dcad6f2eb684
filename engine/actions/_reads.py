"""What investigations of a cluster or a database need, per read as `permissions` per action: to read, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from engine.actions._kubernetes import CONTROLLER_REVISIONS, EVENTS, KINDS, POD_LOGS, PODS, REPLICA_SETS, Resource, Verb
from engine.actions._needs import Need
from engine.actions._permissions import KubernetesRule, needed_for
from engine.actions._sql_reads import query_needs
from engine.response.runbook import Runbook
from engine.response.steps import READS, Investigate, KubernetesSource, PostgresSource, Read, Verify

_FURTHER: Mapping[Read, tuple[tuple[str, Resource, Verb], ...]] = {
    "pods": tuple((kind, PODS, "list") for kind in ("deployment", "statefulset", "daemonset")),
    "status": tuple((kind, CONTROLLER_REVISIONS, "list") for kind in ("statefulset", "daemonset")),
    "logs": (
        *((kind, PODS, "list") for kind in ("deployment", "statefulset", "daemonset")),
        *((kind, POD_LOGS, "get") for kind in READS["logs"]),
    ),
    "events": (("", EVENTS, "list"), ("deployment", REPLICA_SETS, "list")),
    "revisions": (
        ("deployment", REPLICA_SETS, "list"),
        ("statefulset", CONTROLLER_REVISIONS, "list"),
        ("daemonset", CONTROLLER_REVISIONS, "list"),
    ),
}
"""What a read asks for beside the object itself, by the kind of its target ("" for every kind)."""


def read_rules(read: Read) -> tuple[KubernetesRule, ...]:
    """The rules that a read needs, each for the kind of target that needs it."""
    own = tuple(KINDS[kind].rule("get", kind=kind) for kind in READS[read])
    return own + tuple(resource.rule(verb, kind=kind) for kind, resource, verb in _FURTHER[read])


def reads_of(runbooks: Iterable[Runbook]) -> Iterator[Need]:
    """The needs of every step that reads a cluster or a database, in order.

    The "action" of such a need is `read pods` or so, or `query`, whose target is the database.
    """
    for runbook in runbooks:
        for step in runbook.steps:
            body = step.body.fresh if isinstance(step.body, Verify) else step.body
            source = body.source if isinstance(body, Investigate) else None
            if isinstance(source, KubernetesSource):
                needed = needed_for(read_rules(source.read), source.target.text)
                yield Need(runbook.name, step.name, f"read {source.read}", source.target.text, tuple(needed))
            elif isinstance(source, PostgresSource):
                name = source.database
                # One that is chosen when an alert comes may be any of them.
                target = name if isinstance(name, str) else f"{{{{ {name.condition.text} }}}}"
                yield Need(runbook.name, step.name, "query", target, query_needs(source.query))
