"""Go's values as Python ones, and what Go says of them: type, truth, bytes.

| Go | Python |
| --- | --- |
| string, int, float64, complex128, bool, nil | str, int, float, complex, bool, None |
| int64, uint8, template.HTML | subclasses of int and str |
| map[string]string | any `Mapping` |
| map[string]interface {}, []interface {} | `AnyMap`, `AnyList` |
| struct, pointer to struct | `Struct` |

A Go string is bytes. Bytes that are not UTF-8 stand in the str as lone surrogates (Python's `surrogateescape`), so they
count as one character each, as in Go, and `clean` replaces them at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = Any


class TemplateError(Exception):
    """A template could not be expanded with these values. `is_located`: the text says where in the template."""

    is_located = False


class Int64(int):
    """Go's int64."""


class Uint8(int):
    """Go's uint8: a byte of a string."""


class Named(int):
    """A Go integer type with a `String` method: `time.Duration`, `time.Month`, `time.Weekday`."""

    go_type = "int"

    def string(self) -> str:
        """What the type's `String` method says."""
        return str(int(self))


class Html(str):
    """Text that Prometheus marks as safe HTML; an ordinary string here."""

    __slots__ = ()


class AnyMap(dict[str, Any]):
    """Go's map[string]interface {}: JSON objects and the result of `args`."""


class AnyList(list[Any]):
    """Go's []interface {}: JSON arrays."""

    go_type = "[]interface {}"


@dataclass(frozen=True, slots=True)
class Struct:
    """A Go struct, or a pointer to one: the name of its type and its fields in order."""

    name: str
    fields: Mapping[str, Value]
    is_pointer: bool = False

    @property
    def go_type(self) -> str:
        """The Go type."""
        return f"*{self.name}" if self.is_pointer else self.name


class Stringer:
    """A Go value that prints itself: `time.Time`. Subclasses say their `go_type`."""

    go_type = ""

    def string(self) -> str:
        """What its `String` method says."""
        raise NotImplementedError

    def go_string(self) -> str:
        """What its `GoString` method says, for `%#v`."""
        raise NotImplementedError


_TYPES: dict[type, str] = {
    str: "string",
    int: "int",
    float: "float64",
    bool: "bool",
    complex: "complex128",
    type(None): "<nil>",
    dict: "map[string]string",
    Int64: "int64",
    Uint8: "uint8",
    Html: "template.HTML",
    AnyMap: "map[string]interface {}",
}


def type_name(value: Value) -> str:
    """The Go type of a value; `<nil>` for nil."""
    known = _TYPES.get(type(value))
    if known is not None:
        return known
    named: str | None = getattr(value, "go_type", None)
    return named if named is not None else "map[string]string"


def is_true(value: Value) -> bool:
    """Whether `if` takes a value for true: not zero, not empty; a struct and a time always are."""
    return bool(value)


def zero_of_element(container: Value) -> Value:
    """What a map gives for a key that it does not have: nil if its values may be anything, else the empty string."""
    return None if isinstance(container, AnyMap) else ""


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(raw: bytes) -> str:
    """The Go string of these bytes."""
    return raw.decode("utf-8", "surrogateescape")


def clean(text: str) -> str:
    """The text with every byte that is not UTF-8 replaced by U+FFFD, as Go's JSON encoder would."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        whole = from_bytes(text.encode("utf-8", "surrogateescape"))  # pieces of a character may have come together
        return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in whole)
    return text
