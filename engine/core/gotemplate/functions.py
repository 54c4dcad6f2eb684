"""Template functions with the Go types of their parameters, and the checks that Go makes on a call.

    function(trunc, "int string")         # func(int, string)
    function(add, "...any")               # func(...any)

A parameter takes a value of exactly its type; only constants are untyped and adapt. `any` takes everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.gotemplate import tree as t
from engine.core.gotemplate.values import Int64, TemplateError, Value, type_name

NILABLE = frozenset({"any", "template.queryResult", "*template.sample"})


@dataclass(frozen=True, slots=True)
class Function:
    """A function that templates can call.

    `call` takes the arguments in order; with `takes_context`, the context of the expansion before them. The last of
    `parameters` repeats if the function is variadic.
    """

    call: Callable[..., Value]
    parameters: tuple[str, ...]
    is_variadic: bool = False
    takes_context: bool = False

    def parameter(self, number: int) -> str:
        """The type of an argument."""
        return self.parameters[min(number, len(self.parameters) - 1)]

    def complaint(self, name: str, count: int) -> str | None:
        """What is wrong with a number of arguments; None if nothing is."""
        if self.is_variadic:
            least = len(self.parameters) - 1
            return None if count >= least else f"wrong number of args for {name}: want at least {least} got {count}"
        want = len(self.parameters)
        return None if count == want else f"wrong number of args for {name}: want {want} got {count}"


Functions = Mapping[str, Function]


def function(call: Callable[..., Value], signature: str = "", *, takes_context: bool = False) -> Function:
    """A function with its parameters' types, blank between them; `...` before the last makes it variadic."""
    names = signature.split()
    is_variadic = bool(names) and names[-1].startswith("...")
    return Function(call, tuple(name.removeprefix("...") for name in names), is_variadic, takes_context)


def accept(value: Value, wanted: str) -> Value:
    """A value as an argument of a type. Raises `TemplateError` if it is of another."""
    if wanted == "any":
        return value
    if value is None:
        if wanted in NILABLE:
            return None
        raise TemplateError(f"invalid value; expected {wanted}")
    if type_name(value) != wanted:
        raise TemplateError(f"wrong type for value; expected {wanted}; got {type_name(value)}")
    return value


def constant(operand: t.Operand, wanted: str) -> Value:
    """A constant as an argument of a type. Raises `TemplateError` if it cannot be one."""
    if wanted == "any":
        return ideal(operand)
    if isinstance(operand, t.Nil):
        if wanted in NILABLE:
            return None
        raise TemplateError(f"cannot assign nil to {wanted}")
    adapted = _adapted(operand, wanted)
    if adapted is None:
        kind = {"int": "integer", "int64": "integer", "float64": "float"}.get(wanted, wanted)
        raise TemplateError(f"expected {kind}; found {written(operand)}")
    return adapted


def ideal(operand: t.Operand) -> Value:
    """What a constant is by itself. Raises `TemplateError` for a number that is too large for that."""
    if isinstance(operand, t.Number):
        if operand.ideal is None:
            raise TemplateError(f"{operand.written} overflows int")
        return operand.ideal
    return operand.value if isinstance(operand, t.String | t.Boolean) else None


def written(operand: t.Operand) -> str:
    """A constant as it stands in the source."""
    if isinstance(operand, t.Number | t.String):
        return operand.written
    return str(operand.value).lower() if isinstance(operand, t.Boolean) else "nil"


def _adapted(operand: t.Operand, wanted: str) -> Any:
    if isinstance(operand, t.String):
        return operand.value if wanted == "string" else None
    if isinstance(operand, t.Boolean):
        return operand.value if wanted == "bool" else None
    if not isinstance(operand, t.Number):
        return None
    if wanted == "float64":
        return operand.floating
    if operand.integer is None or wanted not in ("int", "int64"):
        return None
    return Int64(operand.integer) if wanted == "int64" else operand.integer
