"""What is in force, as rows for `sentinel config`: key, value (secrets masked) and origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from pydantic import BaseModel, SecretStr

from engine.core.masking import MASK, is_secret_name, mask_text
from engine.edge.settings_load import Key, Loaded

Value = str | int | float | bool | None | list["Value"] | dict[str, "Value"]


class Entry(Struct, frozen=True):
    """One key in force. `key` is dotted, list items by index; `value` is plain data, safe to show."""

    key: str
    value: Value
    origin: str


def entries(loaded: Loaded) -> list[Entry]:
    """Every key in force, in the order of the schema."""
    return [Entry(".".join(key), value, str(loaded.origin(key))) for key, value in _walk((), loaded.settings)]


def _walk(key: Key, value: object) -> Iterator[tuple[Key, Value]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _walk((*key, name), getattr(value, name))
    elif isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _walk((*key, str(name)), child)
    elif isinstance(value, list) and any(isinstance(child, BaseModel) for child in value):
        for index, child in enumerate(value):
            yield from _walk((*key, str(index)), child)
    else:
        yield key, shown(key[-1], value)


def shown(name: str, value: object) -> Value:
    """A value as it may be shown under its name; an empty secret shows as empty, which is not a secret."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, str):
        return MASK if value and is_secret_name(name) else mask_text(value)
    if isinstance(value, list):
        return [shown(name, child) for child in value]
    if isinstance(value, dict):
        return {str(child): shown(str(child), inner) for child, inner in value.items()}
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value) if isinstance(value, Path) else mask_text(str(value))
