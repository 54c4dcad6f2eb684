"""Go's comparison functions: `eq ne lt le gt ge`, with the template package's rules on types."""

from __future__ import annotations

from collections.abc import Mapping

from engine.core.gotemplate.values import Struct, TemplateError, Uint8, Value, to_bytes, type_name

_BASIC: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (Uint8, "uint"),
    (int, "int"),
    (float, "float"),
    (complex, "complex"),
    (str, "string"),
)


def _kind(value: Value) -> str | None:
    """The basic kind of a value; None for maps, lists, structs and nil."""
    return next((kind for base, kind in _BASIC if isinstance(value, base)), None)


def equal(left: Value, *others: Value) -> bool:
    """Whether the first value equals any of the others. Values of different kinds cannot be compared."""
    if not others:
        raise TemplateError("missing argument for comparison")
    return any(_same(left, other) for other in others)


def _same(left: Value, right: Value) -> bool:
    if type(left) is type(right) is str:
        return bool(left == right)
    kinds = _kind(left), _kind(right)
    if kinds[0] == kinds[1]:
        return bool(left == right) if kinds[0] else _same_objects(left, right)
    if set(kinds) == {"int", "uint"}:
        return int(left) == int(right)
    if left is not None and right is not None:
        raise TemplateError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    return False


def _same_objects(left: Value, right: Value) -> bool:
    """Two values that are neither numbers nor text: maps and lists cannot be compared, not even to themselves."""
    if left is None or right is None:
        return left is right
    for value in (left, right):
        if isinstance(value, Mapping | list):
            raise TemplateError(f"non-comparable type: {type_name(value)}")
    if isinstance(left, Struct) and left.is_pointer:
        return left is right
    return bool(left == right)


def not_equal(left: Value, right: Value) -> bool:
    """Whether two values differ."""
    return not equal(left, right)


def less(left: Value, right: Value) -> bool:
    """Whether the first value comes before the second; text by its bytes."""
    kinds = _kind(left), _kind(right)
    if None in kinds:
        raise TemplateError("invalid type for comparison")
    if kinds[0] != kinds[1] and set(kinds) != {"int", "uint"}:
        raise TemplateError(f"incompatible types for comparison: {type_name(left)} and {type_name(right)}")
    if kinds[0] in ("bool", "complex"):
        raise TemplateError("invalid type for comparison")
    if kinds[0] == "string":
        return to_bytes(left) < to_bytes(right)
    return bool(left < right)


def less_or_equal(left: Value, right: Value) -> bool:
    """Whether the first value is before the second or equal to it."""
    return less(left, right) or equal(left, right)


def greater(left: Value, right: Value) -> bool:
    """Go's `gt`: not less or equal, so true for NaN."""
    return not less_or_equal(left, right)


def greater_or_equal(left: Value, right: Value) -> bool:
    """Go's `ge`: not less, so true for NaN."""
    return not less(left, right)
