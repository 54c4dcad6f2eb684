"""Calls of functions and methods, and fields: the checks on arguments made as early as they can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.core.gotemplate import tree as t
from engine.core.gotemplate.frame import Frame
from engine.core.gotemplate.functions import Function, accept, constant
from engine.core.gotemplate.values import AnyMap, Struct, TemplateError, Value, is_true, type_name, zero_of_element

Evaluate = Callable[[Any, Frame], Value]
Compile = Callable[[t.Operand], Evaluate]

_CONSTANTS = (t.Boolean, t.Nil, t.Number, t.String)


def fails(message: str, before: Evaluate | None) -> Evaluate:
    """A function that raises, once what stands before it has been evaluated."""

    def value(dot: Any, frame: Frame) -> Value:
        if before is not None:
            before(dot, frame)
        raise TemplateError(message)

    return value


def compile_call(
    name: str, known: Function, operands: tuple[t.Operand, ...], before: Evaluate | None, compile_operand: Compile
) -> Evaluate:
    """The call of a function; `before` gives the value from the left of a `|`, the last argument."""
    count = len(operands) + (before is not None)
    complaint = known.complaint(name, count)
    if complaint is not None:
        return fails(complaint, before)
    arguments = [_argument(operand, known.parameter(i), compile_operand) for i, operand in enumerate(operands)]
    if name in ("and", "or"):
        return _short_circuit(arguments if before is None else [*arguments, before], stop=name == "or")
    if known.takes_context:
        return _with_context(name, known, arguments, before)
    if before is not None:
        return _piped_call(name, known, arguments, before)
    return _call(name, known, arguments)


def _argument(operand: t.Operand, wanted: str, compile_operand: Compile) -> Evaluate:
    """An operand as an argument of a type."""
    if isinstance(operand, _CONSTANTS):
        try:
            value = constant(operand, wanted)
        except TemplateError as error:
            return fails(str(error), None)
        return lambda dot, frame: value
    evaluate = compile_operand(operand)
    return _checked(evaluate, wanted)


def _checked(evaluate: Evaluate, wanted: str) -> Evaluate:
    if wanted == "any":
        return evaluate
    plain = {"string": str, "int": int, "float64": float}.get(wanted)

    def value(dot: Any, frame: Frame) -> Value:
        found = evaluate(dot, frame)
        return found if type(found) is plain else accept(found, wanted)

    return value


def _short_circuit(arguments: list[Evaluate], *, stop: bool) -> Evaluate:
    """`and` and `or`: the first argument that decides, and no further one is evaluated."""

    def value(dot: Any, frame: Frame) -> Value:
        found: Value = None
        for argument in arguments:
            found = argument(dot, frame)
            if is_true(found) is stop:
                return found
        return found

    return value


def _failed(name: str, error: TemplateError) -> TemplateError:
    return error if error.is_located else TemplateError(f"error calling {name}: {error}")


def _call(name: str, known: Function, arguments: list[Evaluate]) -> Evaluate:
    call = known.call

    def value(dot: Any, frame: Frame) -> Value:
        given = [argument(dot, frame) for argument in arguments]
        try:
            return call(*given)
        except TemplateError as error:
            raise _failed(name, error) from None

    return value


def _piped_call(name: str, known: Function, arguments: list[Evaluate], before: Evaluate) -> Evaluate:
    call, wanted = known.call, known.parameter(len(arguments))
    plain = {"string": str, "int": int, "float64": float}.get(wanted)

    def value(dot: Any, frame: Frame) -> Value:
        final = before(dot, frame)
        given = [argument(dot, frame) for argument in arguments]
        if type(final) is not plain:
            final = accept(final, wanted)
        try:
            return call(*given, final)
        except TemplateError as error:
            raise _failed(name, error) from None

    def value_of_one(dot: Any, frame: Frame) -> Value:
        final = before(dot, frame)
        if type(final) is not plain:
            final = accept(final, wanted)
        try:
            return call(final)
        except TemplateError as error:
            raise _failed(name, error) from None

    return value if arguments else value_of_one


def _with_context(name: str, known: Function, arguments: list[Evaluate], before: Evaluate | None) -> Evaluate:
    if before is not None:
        arguments = [*arguments, _checked(before, known.parameter(len(arguments)))]

    def value(dot: Any, frame: Frame) -> Value:
        given = [argument(dot, frame) for argument in arguments]
        try:
            return known.call(frame, *given)
        except TemplateError as error:
            raise _failed(name, error) from None

    return value


def method_of(receiver: Value, name: str) -> Function | None:
    """The method of a value, ready to be called; None if it has none of this name."""
    known: Function | None = getattr(type(receiver), "go_methods", {}).get(name)
    return known and Function(partial(known.call, receiver), known.parameters, known.is_variadic)


def field_of(receiver: Value, name: str) -> Value:
    """`.name` of a value: an entry of a map, a field of a struct, or a method without arguments."""
    if receiver is None:
        return None
    if isinstance(receiver, Mapping):
        return receiver.get(name, zero_of_element(receiver))
    if isinstance(receiver, Struct) and name in receiver.fields:
        return receiver.fields[name]
    known = method_of(receiver, name)
    if known is None:
        raise TemplateError(f"can't evaluate field {name} in type {type_name(receiver)}")
    complaint = known.complaint(name, 0)
    if complaint is not None:
        raise TemplateError(complaint)
    return known.call()


def fields_of(head: Evaluate, names: tuple[str, ...]) -> Evaluate:
    """A chain of fields."""
    if not names:
        return head
    if len(names) == 1:
        only = names[0]
        return lambda dot, frame: field_of(head(dot, frame), only)

    def value(dot: Any, frame: Frame) -> Value:
        found = head(dot, frame)
        for name in names:
            inside_map = isinstance(found, AnyMap)
            found = field_of(found, name)
            if found is None and inside_map and name != names[-1]:
                raise TemplateError(f"nil pointer evaluating interface {{}}.{names[names.index(name) + 1]}")
        return found

    return value
