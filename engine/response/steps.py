"""What a runbook is once its file was read and checked: plain, compiled, immutable.

Steps stand in a list and only ever go forward (a step may name a later one), so every run of a runbook ends.
The next module in the flow is `response.incident`, which runs the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from msgspec import Struct

from engine.core.labels import Labels, MatcherSet
from engine.response.binding import Bound
from engine.response.conditions import Condition, Text

END = "end"

Mode = Literal["observe", "approve", "auto"]
Priority = Literal["P0", "P1", "P2", "P3"]


class ActionDeclaration(Protocol):
    """What an action says about itself; the modules in `engine/actions` each have one as `ACTION`."""

    @property
    def name(self) -> str:
        """E.g. `http.request`."""

    @property
    def target_kind(self) -> str:
        """The kind of its targets, e.g. `http`."""

    @property
    def object_kinds(self) -> tuple[str, ...]:
        """The kinds of a target `NAMESPACE/KIND/NAME`; none where targets are plain names."""

    @property
    def params(self) -> type[Struct]:
        """The type of its parameters."""

    @property
    def destructive(self) -> bool:
        """Whether it changes something that people would miss."""


Actions = Mapping[str, ActionDeclaration]


@dataclass(frozen=True)
class Value:
    """What CEL computes, and that keeps its type."""

    condition: Condition


Name = str | Value
"""A configured name: written out, or chosen by CEL among those that the settings know."""


@dataclass(frozen=True)
class PostgresSource:
    """Rows of a read-only query. `query` is literal; `params` are the values of $1, $2, ..."""

    database: Name
    query: str
    params: tuple[Condition, ...]


@dataclass(frozen=True)
class PromqlSource:
    """The instant vector of a query: rows of {"labels": {...}, "value": number}."""

    query: Bound


@dataclass(frozen=True)
class LogqlSource:
    """The lines of a log query since `since_ms` ago, newest first: rows of {"time_ms", "labels", "line"}.

    Not `is_lines`: a metric query, with rows as in PromQL. `limit` is how many lines are asked for.
    """

    query: Bound
    is_lines: bool
    since_ms: int
    limit: int


Read = Literal["pods", "status", "logs", "events", "revisions"]

WORKLOADS = ("deployment", "statefulset", "daemonset")
READS: Mapping[Read, tuple[str, ...]] = {
    "pods": (*WORKLOADS, "pod"),
    "status": (*WORKLOADS, "persistentvolumeclaim", "horizontalpodautoscaler"),
    "logs": (*WORKLOADS, "pod"),
    "events": (*WORKLOADS, "pod", "persistentvolumeclaim", "horizontalpodautoscaler"),
    "revisions": WORKLOADS,
}
"""What can be read of a Kubernetes object, with the kinds that have it."""


@dataclass(frozen=True)
class KubernetesSource:
    """Something about the object `NAMESPACE/KIND/NAME`; `tail` is how many lines of each pod's log."""

    read: Read
    target: Text
    tail: int


@dataclass(frozen=True)
class HttpSource:
    """The answer to GET of a path on a host of the allow-list: `status` and `body`."""

    host: Name
    path: Bound


Source = PostgresSource | PromqlSource | LogqlSource | KubernetesSource | HttpSource


def chosen_name(source: Source) -> tuple[str, Condition] | None:
    """The key and the condition of a source's configured name, where CEL chooses it."""
    if isinstance(source, PostgresSource):
        key, name = "database", source.database
    elif isinstance(source, HttpSource):
        key, name = "host", source.host
    else:
        return None
    return (key, name.condition) if isinstance(name, Value) else None


@dataclass(frozen=True)
class Investigate:
    """Gather evidence under the step's name; without an answer go to `on_failure`."""

    source: Source
    timeout_ms: int
    max_rows: int
    on_failure: str | None


@dataclass(frozen=True)
class Branch:
    """A way out of a decision. `because` is kept as the root cause that was found."""

    condition: Condition | None
    target: str
    because: Text | None


@dataclass(frozen=True)
class Decide:
    """Take the first branch whose condition holds; the last one has none."""

    branches: tuple[Branch, ...]


ParamTree = None | bool | int | float | Text | Value | tuple["ParamTree", ...] | Mapping[str, "ParamTree"]


@dataclass(frozen=True)
class Act:
    """Send a command, or (`question`) ask a person for it. An empty subject means nothing to do.

    `even_if_ended`: it completes what this run has begun, so it is done also when the alert has ended meanwhile.
    """

    action: str
    target: Text
    params: Mapping[str, ParamTree]
    subject: Condition | None
    mode: Mode
    expires_ms: int
    question: Text | None
    on_empty: str | None
    on_failure: str | None
    even_if_ended: bool = False


@dataclass(frozen=True)
class Wait:
    """Do nothing for a while."""

    duration_ms: int


@dataclass(frozen=True)
class Verify:
    """Judge after the rule's window and the stabilisation: is the alert cleared, and does `expect` hold on `fresh`?"""

    stabilisation_ms: int | None
    fresh: Investigate | None
    expect: Condition | None
    on_failure: str | None


@dataclass(frozen=True)
class Notify:
    """Tell the receivers `to`, and whoever follows every incident, and go on."""

    text: Text
    to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Escalate:
    """Hand the incident to people, and go on. No `to`: the first level of the escalation."""

    to: tuple[str, ...]
    text: Text


Body = Investigate | Decide | Act | Wait | Verify | Notify | Escalate


def kind_of(body: Body) -> str:
    """The kind of a step as a runbook writes it."""
    if isinstance(body, Act):
        return "ask" if body.question is not None else "act"
    return type(body).__name__.lower()


def source_kind(source: Source) -> str:
    """The kind of a source as a runbook writes it."""
    return type(source).__name__.removesuffix("Source").lower()


@dataclass(frozen=True)
class Way:
    """A way out of a step that the runbook names, and where: `key` is then, else, next, on_empty or on_failure."""

    key: str
    target: str
    line: int
    column: int
    branch: int = 0


@dataclass(frozen=True)
class Step:
    """A named step; `following` is where it goes when all is well (`end`: nowhere). Line and column are its name's."""

    name: str
    body: Body
    following: str
    ways: tuple[Way, ...] = ()
    line: int = 1
    column: int = 1


@dataclass(frozen=True)
class EscalationLevel:
    """Whom to tell, and how long after the level before, if nobody has acknowledged by then."""

    to: tuple[str, ...]
    after_ms: int


Chain = tuple[EscalationLevel, ...]


@dataclass(frozen=True)
class Named:
    """A receiver that a runbook names, and where: in `file`, or "" for the runbook's own."""

    receiver: str
    line: int
    column: int
    file: str = ""


@dataclass(frozen=True)
class Escalation:
    """The levels to tell one after the other: `default`, where a priority has none of its own.

    `names` are all the receivers that its text names.
    """

    default: Chain
    by_priority: Mapping[Priority, Chain] = field(default_factory=dict)
    names: tuple[Named, ...] = ()

    def chain(self, priority: Priority) -> Chain:
        """The levels of a priority."""
        return self.by_priority.get(priority, self.default)


NOBODY = Escalation(())
"""That of a runbook which says nothing, until the default of all runbooks takes its place."""


@dataclass(frozen=True)
class Limits:
    """How often a runbook may act, how long a repair is watched, and when an incident is opened again."""

    cooldown_ms: int = 600_000
    budget_per_hour: int = 5
    stabilisation_ms: int = 30_000
    reopen_ms: int = 600_000


@dataclass(frozen=True)
class Explains:
    """Alerts that an incident of this runbook is the cause of: those that `match`, with the same `equal` labels."""

    match: MatcherSet
    equal: tuple[str, ...]


@dataclass(frozen=True)
class Runbook:
    """What to do about the alerts that `match`. `priority` is fixed, per severity, or computed.

    `names` are all the receivers that its text names.
    """

    name: str
    match: MatcherSet
    priority: Priority | Mapping[str, Priority] | Condition
    group_by: tuple[str, ...]
    limits: Limits
    escalation: Escalation
    summary: Text
    follow_up: tuple[Text, ...]
    steps: tuple[Step, ...]
    file: str
    line: int
    explains: tuple[Explains, ...] = ()
    names: tuple[Named, ...] = ()

    def step(self, name: str) -> Step | None:
        """The step of this name."""
        return next((step for step in self.steps if step.name == name), None)

    def later_verify(self, name: str) -> str | None:
        """The first `verify` step after a step."""
        after = False
        for step in self.steps:
            if after and isinstance(step.body, Verify):
                return step.name
            after = after or step.name == name
        return None


def route(runbooks: tuple[Runbook, ...] | list[Runbook], labels: Labels) -> Runbook | None:
    """The first runbook whose matchers all hold."""
    return next((runbook for runbook in runbooks if runbook.match(labels)), None)


def group_key(runbook: Runbook, labels: Labels) -> dict[str, str]:
    """The labels that decide which incident an alert belongs to."""
    return {name: labels.get(name, "") for name in runbook.group_by}
