"""The state of one running template: its variables, and what the caller gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from engine.core.gotemplate.values import TemplateError, Value

MOST_CALLS = 50  # templates calling templates; Go allows 100,000, but each costs a piece of Python's stack
UNSET: Value = object()


class Bodies(Protocol):
    """The templates that a source defines."""

    @property
    def bodies(self) -> Mapping[str, tuple[Callable[[Any, Frame], str], int]]:
        """For each name how to write it, and how many variables it has."""


class Frame:
    """The variables of a running template.

    `context` is what functions may ask for, `jump` a `break` or `continue` on its way to the `range`.
    """

    __slots__ = ("context", "depth", "jump", "program", "slots")

    def __init__(self, program: Bodies, context: Any, slots: list[Value], depth: int = 0) -> None:
        self.program = program
        self.context = context
        self.slots = slots
        self.depth = depth
        self.jump = ""

    def run(self, name: str, dot: Value) -> str:
        """The text of a defined template with this dot."""
        known = self.program.bodies.get(name)
        if known is None:
            raise TemplateError(f'template "{name}" not defined')
        if self.depth >= MOST_CALLS:
            raise TemplateError(f"exceeded maximum template depth ({MOST_CALLS})")
        write, size = known
        return write(dot, Frame(self.program, self.context, [dot] + [UNSET] * (size - 1), self.depth + 1))
