"""The syntax tree of a template: what the parser makes, the compiler turns into functions, and `queries` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Slot = int  # where a variable stands in its template's frame


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`"""


@dataclass(frozen=True, slots=True)
class Nil:
    """`nil`"""


@dataclass(frozen=True, slots=True)
class Boolean:
    """`true` or `false`"""

    value: bool


@dataclass(frozen=True, slots=True)
class String:
    """A string constant: its text, and how it was written."""

    value: str
    written: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number constant, untyped: each field that is not None is a type it can take.

    `ideal` is what it is by itself; None for an integer that only an unsigned type could hold.
    """

    written: str
    ideal: int | float | complex | None
    integer: int | None
    floating: float | None


@dataclass(frozen=True, slots=True)
class Field:
    """`.name.name`"""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$name.field`. No slot: it is declared in a branch that has not run, which is an error when it is read."""

    name: str
    slot: Slot | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).name` or `function.name`"""

    head: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, with arguments if it is a function or method."""

    operands: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by `|`; `targets` are the variables it sets."""

    commands: tuple[Command, ...]
    targets: tuple[Variable, ...]
    is_assignment: bool
    offset: int


Operand = Dot | Nil | Boolean | String | Number | Field | Variable | Function | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Text:
    """Text as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written."""

    pipeline: Pipeline
    written: str


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`."""

    kind: str
    pipeline: Pipeline
    body: Sequence[Node]
    otherwise: Sequence[Node]
    written: str


@dataclass(frozen=True, slots=True)
class Call:
    """`template "name" pipeline`"""

    name: str
    pipeline: Pipeline | None
    offset: int


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`"""

    kind: str


Node = Text | Action | Branch | Call | Jump
Nodes = Sequence[Node]


@dataclass(frozen=True, slots=True)
class Body:
    """One template: its nodes, and how many variables it has."""

    nodes: Sequence[Node]
    slots: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed source: the main template and those it defines."""

    source: str
    main: Body
    defined: dict[str, Body]
