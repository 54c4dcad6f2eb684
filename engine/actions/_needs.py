"""What the steps of runbooks need, of what their actions declare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.actions import Action, Permission
from engine.actions._permissions import needed_for
from engine.response.conditions import Text
from engine.response.runbook import Runbook
from engine.response.runbook_act import is_literal
from engine.response.steps import Act, ParamTree


@dataclass(frozen=True)
class Need:
    """What one step needs; `target` as the runbook writes it, templates and all."""

    runbook: str
    step: str
    action: str
    target: str
    permissions: tuple[Permission, ...]


def needs_of(runbooks: Iterable[Runbook], actions: Mapping[str, Action]) -> Iterator[Need]:
    """The needs of every step that acts, in order."""
    for runbook in runbooks:
        for step in runbook.steps:
            if isinstance(step.body, Act):
                act = step.body
                literal = {name: _plain(tree) for name, tree in act.params.items() if is_literal(tree)}
                needed = needed_for(actions[act.action].needed(literal), act.target.text)
                yield Need(runbook.name, step.name, act.action, act.target.text, tuple(needed))


def in_namespace(needs: Iterable[Need], namespace: str) -> list[Permission]:
    """What is needed in a namespace: a target that names another one, and no template, needs nothing there."""
    out: list[Permission] = []
    for need in needs:
        named = need.target.partition("/")[0]
        if named == namespace or "{" in named:
            out += need.permissions
    return out


def for_target(needs: Iterable[Need], name: str) -> list[Permission]:
    """What is needed for a target of this name: by the steps that name it, or name none before an alert comes."""
    return [one for need in needs if need.target == name or "{" in need.target for one in need.permissions]


def _plain(tree: ParamTree) -> Any:
    """A literal parameter as plain data."""
    if isinstance(tree, Text):
        return tree.text
    if isinstance(tree, Mapping):
        return {name: _plain(value) for name, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, tuple) else tree
