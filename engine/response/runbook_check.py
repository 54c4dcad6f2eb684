"""What must hold between the steps of a runbook: every way through it is one that makes sense.

- a step named anywhere exists and comes later, so that every run ends;
- every step can be reached (a verification also by an action before it that ends inconclusive);
- a name used in a condition or text is the alert's, or evidence gathered or an action tried on *every* way there;
- after an action a `verify` or an `escalate` comes on every way, so that nothing is done and then forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.core.diagnostics import Path
from engine.response.conditions import Condition, Text
from engine.response.reader import Reader
from engine.response.runbook_act import names_of
from engine.response.runbook_types import check_types
from engine.response.steps import (
    END,
    Act,
    Decide,
    Escalate,
    HttpSource,
    Investigate,
    KubernetesSource,
    Notify,
    PostgresSource,
    Runbook,
    Step,
    Verify,
    chosen_name,
    kind_of,
    source_kind,
)

_ALWAYS = frozenset({"labels", "alert", "incident"})


def check_runbook(reader: Reader, path: Path, runbook: Runbook) -> None:
    """Note every problem between the parts of a runbook; where there is none, what its conditions can never be."""
    before = len(reader.problems)
    positions = {step.name: i for i, step in enumerate(runbook.steps)}
    places = _places(reader, path)
    whole = True
    for i, step in enumerate(runbook.steps):
        for where, name in _ways(step):
            if name == END:
                continue
            if name not in positions:
                whole = False
                reader.refuse((*places[step.name], *where), f"there is no step {name!r}")
            elif positions[name] <= i:
                whole = False
                reader.refuse((*places[step.name], *where), f"{name!r} does not come later; steps only go forward")
    if whole and runbook.steps:
        _check_flow(reader, places, runbook)
    for text_path, text in _texts(runbook, path):
        for name in sorted(text.names() - _ALWAYS):
            reader.refuse(text_path, f"{name!r} is not known here; known: {', '.join(sorted(_ALWAYS))}")
    if len(reader.problems) == before:
        check_types(reader, path, places, runbook)


def _places(reader: Reader, path: Path) -> dict[str, Path]:
    data = reader.document.data["runbooks"][path[1]]
    items = data.get("steps") if isinstance(data, dict) else None
    found = enumerate(items) if isinstance(items, list) else ()
    return {str(item.get("name")): (*path, "steps", i) for i, item in found if isinstance(item, dict)}


def _ways(step: Step) -> Iterator[tuple[Path, str]]:
    """The steps a step can lead to, with where that is written."""
    body = step.body
    if isinstance(body, Decide):
        for i, branch in enumerate(body.branches):
            if branch.target:
                yield ("decide", i, "then" if branch.condition is not None else "else"), branch.target
        return
    yield ("next",), step.following
    kind = kind_of(body)
    if isinstance(body, Act) and body.on_empty is not None:
        yield (kind, "on_empty"), body.on_empty
    if isinstance(body, Act | Investigate | Verify) and body.on_failure is not None:
        yield (kind, "on_failure"), body.on_failure


def _check_flow(reader: Reader, places: dict[str, Path], runbook: Runbook) -> None:
    """Follow every way at once: steps only go forward, so one pass in their order is enough."""
    told = {step.name: "gathered" for step in runbook.steps if _gathers(step)}
    told |= {step.name: "done" for step in runbook.steps if isinstance(step.body, Act)}
    known: dict[str, frozenset[str] | None] = {step.name: None for step in runbook.steps}
    unwatched: dict[str, bool] = dict.fromkeys(known, False)
    known[runbook.steps[0].name] = frozenset()
    for step in runbook.steps:
        here, place = known[step.name], places[step.name]
        if here is None:
            reader.refuse((*place, "name"), f"step {step.name!r} is never reached")
            continue
        _check_names(reader, place, step, here, told)
        watched = isinstance(step.body, Verify | Escalate)
        left = not watched and (unwatched[step.name] or isinstance(step.body, Act))
        for where, name in [*_ways(step), *_inconclusive(runbook, step)]:
            failure = where[-1] in ("on_failure", "on_empty")
            if name == END:
                if left and not failure:
                    reader.refuse((*place, *where), "ends after an action without a `verify` or an `escalate`")
                continue
            gathered = here | {step.name} if _names(step, where[-1]) else here
            before = known[name]
            known[name] = gathered if before is None else before & gathered
            unwatched[name] = unwatched[name] or left


def _inconclusive(runbook: Runbook, step: Step) -> Iterator[tuple[Path, str]]:
    """The way that no runbook writes: of an action that nobody knows about, to the next verification."""
    verify = runbook.later_verify(step.name) if isinstance(step.body, Act) else None
    if verify is not None:
        yield (kind_of(step.body),), verify


def _gathers(step: Step) -> bool:
    return isinstance(step.body, Investigate) or (isinstance(step.body, Verify) and step.body.fresh is not None)


def _names(step: Step, way: str | int) -> bool:
    """Whether the steps along a way may speak of a step: of evidence that is there, of an outcome good or bad."""
    if isinstance(step.body, Act):
        return way != "on_empty"
    return _gathers(step) and way != "on_failure"


def _check_names(reader: Reader, place: Path, step: Step, here: frozenset[str], told: Mapping[str, str]) -> None:
    body, known = step.body, _ALWAYS | here
    extra = {"subject"} if isinstance(body, Act) and body.subject is not None else set()
    for where, found in _named_parts(body):
        own = {step.name} if where[-1] == "expect" and where[0] == "verify" and _gathers(step) else set()
        for name in sorted(found - known - own - (extra if where[-1] != "subject" else set())):
            if name in told:
                reader.refuse((*place, *where), f"{name!r} is not {told[name]} on every way to this step")
            else:
                names = ", ".join(sorted(known | own | extra))
                reader.refuse((*place, *where), f"{name!r} is not known here; known: {names}")


def _named_parts(body: object) -> Iterator[tuple[Path, frozenset[str]]]:
    if isinstance(body, Decide):
        for i, branch in enumerate(body.branches):
            yield from _part(("decide", i, "if"), branch.condition)
            yield from _part(("decide", i, "because"), branch.because)
    elif isinstance(body, Act):
        kind = kind_of(body)
        yield from _part((kind, "subject"), body.subject)
        yield from _part((kind, "target"), body.target)
        yield from _part((kind, "question"), body.question)
        for key, tree in body.params.items():
            yield (kind, "params", key), names_of(tree)
    elif isinstance(body, Investigate):
        yield from _query_parts(("investigate",), body)
    elif isinstance(body, Verify):
        if body.fresh is not None:
            yield from _query_parts(("verify", "investigate"), body.fresh)
        yield from _part(("verify", "expect"), body.expect)
    elif isinstance(body, Notify | Escalate):
        yield from _part((kind_of(body), "text"), body.text)


def _query_parts(path: Path, body: Investigate) -> Iterator[tuple[Path, frozenset[str]]]:
    source = body.source
    chosen = chosen_name(source)
    if chosen is not None:
        yield (*path, source_kind(source), chosen[0]), chosen[1].names()
    if isinstance(source, PostgresSource):
        for i, param in enumerate(source.params):
            yield (*path, "postgres", "params", i), param.names()
    elif isinstance(source, KubernetesSource):
        yield (*path, "kubernetes", "target"), source.target.names()
    else:
        bound = source.path if isinstance(source, HttpSource) else source.query
        for name, value in bound.params.items():
            yield (*path, source_kind(source), "params", name), value.names()


def _part(path: Path, part: Condition | Text | None) -> Iterator[tuple[Path, frozenset[str]]]:
    if part is not None:
        yield path, part.names()


def _texts(runbook: Runbook, path: Path) -> Iterator[tuple[Path, Condition | Text]]:
    yield (*path, "summary"), runbook.summary
    for i, item in enumerate(runbook.follow_up):
        yield (*path, "follow_up", i), item
    if isinstance(runbook.priority, Condition):
        yield (*path, "priority"), runbook.priority
