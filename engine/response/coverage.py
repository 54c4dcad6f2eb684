"""Which ways of the runbooks the test cases took: every `then`, `else`, `next`, `on_empty` and `on_failure` counts.

Read from the timeline of each case, which says what became of every step, and from the steps that it went through. So
the state machine knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from engine.response.model import Note
from engine.response.runbooktest import Course
from engine.response.steps import Act, Decide, Investigate, Runbook, Step, Verify, Wait, Way


class CoveredWay(Struct, frozen=True):
    """A way of a runbook, where it is named, and how many cases took it."""

    file: str
    line: int
    column: int
    runbook: str
    step: str
    way: str
    cases: int


def coverage(runbooks: Iterable[Runbook], courses: Iterable[Course]) -> list[CoveredWay]:
    """Every way that a runbook names, in the order of the files, with the number of cases that took it."""
    ran = list(courses)
    return [
        CoveredWay(
            runbook.file,
            way.line,
            way.column,
            runbook.name,
            step.name,
            f"{way.key}: {way.target}",
            sum(_took(course, step, way) for course in ran if course.state.runbook == runbook.name),
        )
        for runbook in runbooks
        for step in runbook.steps
        for way in step.ways
    ]


def share(ways: Sequence[CoveredWay]) -> float:
    """How much of the ways was taken, in percent; all of none."""
    return 100 * sum(way.cases > 0 for way in ways) / len(ways) if ways else 100.0


def _took(course: Course, step: Step, way: Way) -> bool:
    """Whether a case went a way, as the rows of its timeline about the step say."""
    commands = {command.id for command in course.commands if command.step == step.name}
    told = [note for note in course.notes if note.data.get("step") == step.name or note.command in commands]
    if isinstance(step.body, Verify):  # which may gather evidence on its way
        told = [note for note in told if note.kind.startswith("verify.")]
    if isinstance(step.body, Decide):
        return any(note.kind == "step.decided" and _is_branch(note, step.body, way.branch) for note in told)
    if way.key == "on_empty":
        return any(note.kind == "command.nothing_to_do" for note in told)
    if way.key == "on_failure":
        return any(_ended(note) == "failed" for note in told)
    if isinstance(step.body, Investigate | Act | Verify):
        return any(_ended(note) == "succeeded" for note in told)
    return any(_was_left(trail, course, step) for trail in course.trails)


def _is_branch(note: Note, body: Decide, index: int) -> bool:
    condition = body.branches[index].condition
    return note.data.get("condition") == (condition.text if condition else "otherwise")


def _ended(note: Note) -> str:
    """How a step ended that can fail, "" for rows that do not say."""
    if note.kind == "command.outcome":
        return str(note.data["status"])
    return _ENDS.get(note.kind, "")


def _was_left(trail: Sequence[str], course: Course, step: Step) -> bool:
    """Whether a step that cannot fail was done: another came after it, or it was the last one and all are over."""
    if step.name not in trail or trail[-1] != step.name or not isinstance(step.body, Wait):
        return step.name in trail
    return course.state.awaiting.kind in ("people", "clear") or course.state.resolution == "verified"


_ENDS = {
    "evidence.gathered": "succeeded",
    "evidence.failed": "failed",
    "verify.succeeded": "succeeded",
    "verify.failed": "failed",
}
