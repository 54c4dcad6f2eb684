"""Reading the steps of a runbook. A step is a mapping with `name`, one kind, and where it matters `next`.

- `investigate`: asks a source, see `response.runbook_sources`;
- `decide`: a list of `{if: CEL, then: step, because: text}`, the last one `{else: step}`;
- `act`: `action`, `target`, `params`, `subject`, `mode`, `expires`, `on_empty`, `on_failure`, `even_if_ended`;
- `ask`: as `act`, always for a person, with a `question`;
- `wait`: a duration;
- `verify`: `stabilisation`, `investigate`, `expect`, `on_failure`;
- `notify`: `to`, `text`;
- `escalate`: `to`, `text`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.core.diagnostics import Path
from engine.response.reader import NAME, Reader
from engine.response.runbook_act import read_act
from engine.response.runbook_sources import read_investigate
from engine.response.steps import (
    END,
    Body,
    Branch,
    Decide,
    Escalate,
    Notify,
    Step,
    Verify,
    Wait,
    Way,
)

RESERVED = frozenset({"labels", "alert", "incident", "subject", END})


def read_steps(reader: Reader, path: Path, item: object) -> tuple[Step, ...]:
    """The steps of a runbook in their order."""
    if not isinstance(item, list) or not item:
        reader.refuse(path, "a runbook needs a list of `steps`")
        return ()
    names = [part.get("name") if isinstance(part, dict) else None for part in item]
    steps: list[Step] = []
    for i, part in enumerate(item):
        following = names[i + 1] if i + 1 < len(names) else END
        step = _read_step(reader, (*path, i), part, str(following))
        if step is None:
            continue
        if any(step.name == earlier.name for earlier in steps):
            reader.refuse((*path, i, "name"), f"step {step.name!r} stands in this runbook twice")
        steps.append(step)
    return tuple(steps)


def _read_step(reader: Reader, path: Path, item: object, following: str) -> Step | None:
    if not isinstance(item, dict):
        reader.refuse(path, "a step is a mapping with `name` and one kind of step")
        return None
    name = reader.string((*path, "name"), item.get("name"), "`name` of a step")
    if name and (not NAME.fullmatch(name) or name in RESERVED):
        reader.refuse((*path, "name"), f"{name!r} cannot name a step: letters, digits and _, not {sorted(RESERVED)}")
    kinds = [key for key in item if key not in ("name", "next")]
    unknown = [kind for kind in kinds if kind not in _READ]
    for kind in unknown:
        reader.refuse((*path, kind), f"unknown kind of step {kind!r}; known: {', '.join(sorted(_READ))}", key=True)
    if unknown:
        return None
    if len(kinds) != 1:
        reader.refuse(path, f"a step has exactly one kind ({', '.join(sorted(_READ))}), this one has {len(kinds)}")
        return None
    kind = kinds[0]
    if "next" in item:
        if kind == "decide":
            reader.refuse((*path, "next"), "`decide` says with `then` and `else` where it goes", key=True)
        following = reader.string((*path, "next"), item["next"], "`next`")
    body = _READ[kind](reader, (*path, kind), item[kind])
    if body is None:
        return None
    ways = _named_ways(reader, path, kind, body)
    if "next" in item:
        ways = (*ways, Way("next", following, *reader.document.at_key((*path, "next"))))
    return Step(name, body, following, ways, *reader.document.at((*path, "name")))


def _named_ways(reader: Reader, path: Path, kind: str, body: Body) -> tuple[Way, ...]:
    """The ways that the step's body names, with their places."""
    at = reader.document.at_key
    if isinstance(body, Decide):
        keys = ["then" if branch.condition is not None else "else" for branch in body.branches]
        return tuple(
            Way(key, branch.target, *at((*path, kind, i, key)), branch=i)
            for i, (key, branch) in enumerate(zip(keys, body.branches, strict=True))
        )
    named = [(key, getattr(body, key, None)) for key in ("on_empty", "on_failure")]
    return tuple(Way(key, target, *at((*path, kind, key))) for key, target in named if target is not None)


def _decide(reader: Reader, path: Path, item: object) -> Decide | None:
    if not isinstance(item, list) or not item:
        reader.refuse(path, "`decide` is a list of `{if: ..., then: ...}` that ends with `{else: ...}`")
        return None
    branches = []
    for i, part in enumerate(item):
        where, last = (*path, i), i == len(item) - 1
        data = reader.mapping(where, part, "a branch of `decide`", ("if", "then", "else", "because"))
        key = "else" if last else "then"
        if last and ("if" in data or "else" not in data):
            reader.refuse(where, "the last branch of `decide` is `else`, so that something is decided in any case")
        elif not last and ("else" in data or "if" not in data):
            reader.refuse(where, "every branch of `decide` but the last has `if` and `then`")
        condition = None if "if" not in data else reader.condition((*where, "if"), data["if"], "`if`")
        because = None
        if "because" in data:
            because = reader.text((*where, "because"), data["because"], "`because`")
        target = reader.string((*where, key), data.get(key), f"`{key}`")
        branches.append(Branch(condition, target, because))
    return Decide(tuple(branches))


def _wait(reader: Reader, path: Path, item: object) -> Wait:
    wait_ms = reader.duration_ms(path, "" if item is None else item, 1)
    if wait_ms <= 0:
        reader.refuse(path, "`wait` is a duration longer than nothing, e.g. 30s")
    return Wait(wait_ms)


def _verify(reader: Reader, path: Path, item: object) -> Verify:
    data = reader.mapping(path, {} if item is None else item, "`verify`", _VERIFY)
    stabilisation_ms = None
    if "stabilisation" in data:
        stabilisation_ms = reader.duration_ms((*path, "stabilisation"), data["stabilisation"], 0)
    fresh = None
    if "investigate" in data:
        fresh = read_investigate(reader, (*path, "investigate"), data["investigate"])
        if fresh is not None and fresh.on_failure is not None:
            reader.refuse((*path, "investigate", "on_failure"), "`on_failure` stands beside it, in `verify`", key=True)
    expect = None
    if "expect" in data:
        expect = reader.condition((*path, "expect"), data["expect"], "`expect`")
    return Verify(stabilisation_ms, fresh, expect, reader.optional(path, data, "on_failure"))


def _notify(reader: Reader, path: Path, item: object) -> Notify:
    data = reader.mapping(path, item, "`notify`", ("to", "text"))
    text = reader.text((*path, "text"), data.get("text"), "`text`")
    return Notify(text, _receivers(reader, path, data))


def _escalate(reader: Reader, path: Path, item: object) -> Escalate:
    data = reader.mapping(path, item, "`escalate`", ("to", "text"))
    text = reader.text((*path, "text"), data.get("text"), "`text`")
    return Escalate(_receivers(reader, path, data), text)


def _receivers(reader: Reader, path: Path, data: Mapping[str, object]) -> tuple[str, ...]:
    return reader.receivers((*path, "to"), data["to"]) if "to" in data else ()


_VERIFY = ("stabilisation", "investigate", "expect", "on_failure")
_READ: Mapping[str, Callable[[Reader, Path, object], Body | None]] = {
    "investigate": read_investigate,
    "decide": _decide,
    "act": lambda reader, path, item: read_act(reader, path, item, ask=False),
    "ask": lambda reader, path, item: read_act(reader, path, item, ask=True),
    "wait": _wait,
    "verify": _verify,
    "notify": _notify,
    "escalate": _escalate,
}
