"""Writes `docs/settings.md` from the schema: `python -m engine.edge.settings_doc` (a test holds it up to date)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from engine.edge.settings import Settings
from engine.edge.settings_base import Section
from engine.edge.settings_view import shown

PAGE = Path("docs/settings.md")

_HEAD = """\
# Settings

This page is generated from the schema: `python -m engine.edge.settings_doc`.

A value comes from the first of these that has it:

1. a flag: `sentinel run --set kafka.url=kafka://broker:9092` (`--set` may be repeated),
2. the environment: `SENTINEL_KAFKA__URL=kafka://broker:9092` (the key in capitals, `__` for each dot),
3. the file named by `--config`, else by `SENTINEL_CONFIG`, else `sentinel.yml` in the current folder,
4. the default.

Mappings are joined over the sources, lists are replaced. In flags and environment variables, lists and mappings are
written as YAML or JSON: `SENTINEL_EXECUTOR__ALLOW_ACTIONS='[http.request]'`. Unknown keys and wrong types are refused,
all at once, each with its place. `sentinel config` prints what is in force, where each value came from, and masks
secrets; `sentinel config --json` does so for programs.
"""


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_section("", Settings, "Everything that has no section."))


def _section(prefix: str, model: type[Section], title: str) -> Iterator[str]:
    yield f"\n## {f'`{prefix}`' if prefix else 'Top level'}\n\n{title}\n\n"
    plain = {name: field for name, field in model.model_fields.items() if _section_of(field) is None}
    if plain:
        yield "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
    for name, field in plain.items():
        key = f"{prefix}.{name}" if prefix else name
        yield f"| `{key}` | {_type(field.annotation)} | {_default(name, field)} | {field.description} |\n"
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}" if prefix else name
        inner = _section_of(field) or _item_of(field)
        if inner is not None:
            kind = get_origin(field.annotation)
            suffix = ".NAME" if kind is dict else "[]" if kind is list else ""
            yield from _section(f"{key}{suffix}", inner, (inner.__doc__ or "").strip())


def _section_of(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _item_of(field: FieldInfo) -> type[Section] | None:
    arguments = [one for one in get_args(field.annotation) if one is not NoneType]
    last = arguments[-1] if arguments else None
    return last if isinstance(last, type) and issubclass(last, Section) else None


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if origin is UnionType:
        return _type(arguments[0])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "mapping"
    names = {str: "text", SecretStr: "secret", int: "integer", float: "number", bool: "true, false", Path: "path"}
    return names[kind]


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = shown(name, field.default)
    return "" if value in ("", None) else f"`{value if isinstance(value, str) else json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
