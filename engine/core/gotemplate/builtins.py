"""The functions that every Go template has. `and` and `or` stand here for their names; the compiler knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from engine.core.gotemplate import comparison, escaping
from engine.core.gotemplate.functions import Functions, function
from engine.core.gotemplate.printf import sprintf
from engine.core.gotemplate.printing import Flags, format_value, sprint
from engine.core.gotemplate.values import (
    TemplateError,
    Uint8,
    Value,
    from_bytes,
    is_true,
    to_bytes,
    type_name,
    zero_of_element,
)


def length(item: Value) -> int:
    """How many entries a map or list has, or bytes a string."""
    if item is None:
        raise TemplateError("len of nil pointer")
    if isinstance(item, str):
        return len(item) if item.isascii() else len(to_bytes(item))
    if isinstance(item, Mapping | list):
        return len(item)
    raise TemplateError(f"len of type {type_name(item)}")


def index(item: Value, *keys: Value) -> Value:
    """The entry under a key or number, and under the next key in that; a missing key gives the zero value."""
    if item is None:
        raise TemplateError("index of untyped nil")
    for key in keys:
        if isinstance(item, Mapping):
            item = item.get(_map_key(key), zero_of_element(item))
        elif isinstance(item, list):
            item = _entry(item, key, "slice")
        elif isinstance(item, str):
            item = Uint8(_entry(to_bytes(item), key, "string"))
        elif item is None:
            raise TemplateError("index of nil pointer")
        else:
            raise TemplateError(f"can't index item of type {type_name(item)}")
    return item


def _map_key(key: Value) -> str:
    if key is None:
        raise TemplateError("value is nil; should be of type string")
    if type_name(key) != "string":
        raise TemplateError(f"value has type {type_name(key)}; should be string")
    return str(key)


def _index(key: Value, most: int) -> int:
    """A number as an index of at most `most`."""
    if key is None:
        raise TemplateError("cannot index slice/array with nil")
    if not isinstance(key, int) or isinstance(key, bool):
        raise TemplateError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key <= most:
        raise TemplateError(f"index out of range: {int(key)}")
    return int(key)


def _entry(items: Sequence[Value], key: Value, what: str) -> Value:
    at = _index(key, len(items))
    if at == len(items):
        raise TemplateError(f"reflect: {what} index out of range")
    return items[at]


def cut(item: Value, *indexes: Value) -> Value:
    """Go's `slice`: `slice x 1 2` is `x[1:2]`; a string is cut by its bytes."""
    if item is None:
        raise TemplateError("slice of untyped nil")
    if len(indexes) > 3:
        raise TemplateError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise TemplateError("cannot 3-index slice a string")
        raw = to_bytes(item)
        start, end = _bounds(raw, indexes)
        return from_bytes(raw[start:end])
    if not isinstance(item, list):
        raise TemplateError(f"can't slice item of type {type_name(item)}")
    start, end = _bounds(item, indexes)
    return type(item)(item[start:end])


def _bounds(item: Sequence[Value], indexes: tuple[Value, ...]) -> tuple[int, int]:
    numbers = [_index(key, len(item)) for key in indexes]
    bounds = [0, len(item)]
    bounds[: len(numbers)] = numbers
    for low, high in pairwise(bounds):
        if low > high:
            raise TemplateError(f"invalid slice index: {low} > {high}")
    return bounds[0], bounds[1]


def call(item: Value, *arguments: Value) -> Value:
    """Go's `call`: no value of a template here is a function, so it always fails, as Go's does on a non-function."""
    if item is None:
        raise TemplateError("call of nil")
    raise TemplateError(f"non-function of type {type_name(item)}")


def println(*values: Value) -> str:
    """The values printed with blanks between them and a newline behind."""
    return " ".join([format_value(value, "v", Flags()) for value in values]) + "\n"


def _first(stops: Callable[[Value], bool]) -> Callable[..., Value]:
    def chosen(*values: Value) -> Value:
        return next((value for value in values if stops(value)), values[-1])

    return chosen


BUILTINS: Functions = {
    "and": function(_first(lambda value: not is_true(value)), "any ...any"),
    "or": function(_first(is_true), "any ...any"),
    "not": function(lambda value: not is_true(value), "any"),
    "len": function(length, "any"),
    "index": function(index, "any ...any"),
    "slice": function(cut, "any ...any"),
    "call": function(call, "any ...any"),
    "print": function(lambda *values: sprint(values), "...any"),
    "println": function(println, "...any"),
    "printf": function(lambda template, *values: sprintf(template, values), "string ...any"),
    "html": function(escaping.html, "...any"),
    "js": function(escaping.js, "...any"),
    "urlquery": function(escaping.urlquery, "...any"),
    "eq": function(comparison.equal, "any ...any"),
    "ne": function(comparison.not_equal, "any any"),
    "lt": function(comparison.less, "any any"),
    "le": function(comparison.less_or_equal, "any any"),
    "gt": function(comparison.greater, "any any"),
    "ge": function(comparison.greater_or_equal, "any any"),
}
