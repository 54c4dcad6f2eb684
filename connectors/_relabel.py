"""Relabelling: the steps that decide which targets are read, which series are kept, and under which labels.

The steps, their defaults and their order are Prometheus's (`relabel_configs`, `metric_relabel_configs`): each works on
the labels that the one before it left, and one that says "drop" ends it.

    labels --step--> labels --step--> labels        kept, as they are now
                          \\--step--> None          dropped

Specification: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.core.labels import Labels
from engine.vector.relabel import expand, pattern

Action = Literal[
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
]
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NEEDS_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")


@dataclass(frozen=True)
class Step:
    """One relabelling step. Raises `ValueError` where a field that its action needs is missing or malformed."""

    action: Action = "replace"
    source_labels: Sequence[str] = ()
    separator: str = ";"
    regex: str = "(.*)"
    modulus: int = 0
    target_label: str = ""
    replacement: str = "$1"

    def __post_init__(self) -> None:
        """Refuse what could never work, before the first target is looked at."""
        pattern(self.regex)
        if self.action in _NEEDS_TARGET and not self.target_label:
            raise ValueError(f"action {self.action} needs target_label")
        if self.action == "hashmod" and self.modulus <= 0:
            raise ValueError("action hashmod needs modulus")
        is_template = self.action == "replace" and "$" in self.target_label
        if self.target_label and not is_template and not _LABEL_NAME.fullmatch(self.target_label):
            raise ValueError(f"target_label {self.target_label!r} is not a label name")

    def value(self, labels: Labels) -> str:
        """The values of the source labels, joined."""
        return self.separator.join(labels.get(name, "") for name in self.source_labels)

    def matches(self, text: str) -> bool:
        """Whether the regular expression matches the whole of a text."""
        return pattern(self.regex).fullmatch(text) is not None


def relabel(labels: Labels, steps: Iterable[Step]) -> Labels | None:
    """The labels after every step; None when a step drops them. The given labels stay as they are."""
    found = {name: value for name, value in labels.items() if value}
    for step in steps:
        after = _ACTIONS[step.action](step, found)
        if after is None:
            return None
        found = after
    return found


def _set(labels: Labels, name: str, value: str) -> Labels:
    """A label set anew; an empty value takes the label away."""
    rest = {known: text for known, text in labels.items() if known != name}
    return {**rest, name: value} if value else rest


def _replace(step: Step, labels: Labels) -> Labels:
    match = pattern(step.regex).fullmatch(step.value(labels))
    if match is None:
        return labels
    target = expand(step.target_label, match)
    return _set(labels, target, expand(step.replacement, match)) if _LABEL_NAME.fullmatch(target) else labels


def _hashmod(step: Step, labels: Labels) -> Labels:
    """As Prometheus: the last eight bytes of the MD5, big endian, so that shards agree with a Prometheus's."""
    digest = hashlib.md5(step.value(labels).encode(), usedforsecurity=False).digest()
    return _set(labels, step.target_label, str(int.from_bytes(digest[8:], "big") % step.modulus))


def _labelmap(step: Step, labels: Labels) -> Labels:
    result = labels
    for name, value in labels.items():
        match = pattern(step.regex).fullmatch(name)
        if match is not None:
            result = _set(result, expand(step.replacement, match), value)
    return result


_ACTIONS: dict[Action, Callable[[Step, Labels], Labels | None]] = {
    "replace": _replace,
    "keep": lambda step, labels: labels if step.matches(step.value(labels)) else None,
    "drop": lambda step, labels: None if step.matches(step.value(labels)) else labels,
    "keepequal": lambda step, labels: labels if step.value(labels) == labels.get(step.target_label, "") else None,
    "dropequal": lambda step, labels: None if step.value(labels) == labels.get(step.target_label, "") else labels,
    "hashmod": _hashmod,
    "labelmap": _labelmap,
    "labeldrop": lambda step, labels: {name: text for name, text in labels.items() if not step.matches(name)},
    "labelkeep": lambda step, labels: {name: text for name, text in labels.items() if step.matches(name)},
    "lowercase": lambda step, labels: _set(labels, step.target_label, step.value(labels).lower()),
    "uppercase": lambda step, labels: _set(labels, step.target_label, step.value(labels).upper()),
}
