"""Reading an `act` or `ask` step: the action must exist, and its parameters must be what it declares.

Parameters are checked as far as they are known: a literal one completely, one that holds a template or `{cel: ...}`
once it is filled in, just before the command is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args

import msgspec

from engine.core.diagnostics import Path
from engine.response.conditions import Condition, Text
from engine.response.reader import Reader
from engine.response.steps import Act, ActionDeclaration, Mode, ParamTree, Value

_KEYS = ("action", "target", "params", "subject", "mode", "expires", "on_empty", "on_failure", "even_if_ended")
_MODES: tuple[Mode, ...] = get_args(Mode)
_DEFAULT_EXPIRY_MS = 300_000
# A text from outside inside one of these would be read as code, or as another address: it has to be quoted.
_QUOTED = {"expect": "cel", "path": "segment"}
_FILLED = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def read_act(reader: Reader, path: Path, item: object, *, ask: bool) -> Act:
    """The body of an `act` (or `ask`) step."""
    data = reader.mapping(path, item, "`ask`" if ask else "`act`", (*_KEYS, "question") if ask else _KEYS)
    action = reader.string((*path, "action"), data.get("action"), "`action`")
    declared = reader.actions.get(action)
    if action and declared is None:
        known = ", ".join(sorted(reader.actions)) or "none"
        reader.refuse((*path, "action"), f"there is no action {action!r}; known: {known}")
    subject = reader.condition((*path, "subject"), data["subject"], "`subject`") if "subject" in data else None
    question = None
    if ask:
        question = reader.text((*path, "question"), data.get("question"), "`question`")
        if "mode" in data:
            reader.refuse((*path, "mode"), "`ask` always asks a person; it has no `mode`", key=True)
    target = reader.text((*path, "target"), data.get("target"), "`target`")
    if declared is not None and declared.object_kinds:
        reader.object_name((*path, "target"), target, f"a target of {declared.name}", declared.object_kinds)
    return Act(
        action=action,
        target=target,
        params=_params(reader, (*path, "params"), data.get("params", {}), declared),
        subject=subject,
        mode="approve" if ask else _mode(reader, (*path, "mode"), data.get("mode", "auto")),
        expires_ms=_expiry(reader, (*path, "expires"), data.get("expires")),
        question=question,
        on_empty=reader.optional(path, data, "on_empty"),
        on_failure=reader.optional(path, data, "on_failure"),
        even_if_ended=_switch(reader, (*path, "even_if_ended"), data.get("even_if_ended", False)),
    )


def _expiry(reader: Reader, path: Path, item: object) -> int:
    expires_ms = reader.duration_ms(path, item, _DEFAULT_EXPIRY_MS)
    if expires_ms <= 0:
        reader.refuse(path, "`expires` is a duration longer than nothing")
    return expires_ms


def _switch(reader: Reader, path: Path, item: object) -> bool:
    if not isinstance(item, bool):
        reader.refuse(path, f"`{path[-1]}` is true or false, not {item!r}")
    return item is True


def _mode(reader: Reader, path: Path, item: object) -> Mode:
    for mode in _MODES:
        if item == mode:
            return mode
    reader.refuse(path, f"`mode` is one of {', '.join(_MODES)}, not {item!r}")
    return "approve"


def _params(reader: Reader, path: Path, item: object, declared: ActionDeclaration | None) -> Mapping[str, ParamTree]:
    if not isinstance(item, dict):
        reader.refuse(path, "`params` is a mapping")
        return {}
    out = {key: _tree(reader, (*path, key), value) for key, value in item.items()}
    if declared is not None:
        _check_params(reader, path, item, out, declared)
    return out


def _tree(reader: Reader, path: Path, item: object) -> ParamTree:
    if isinstance(item, dict):
        if set(item) == {"cel"}:
            condition = reader.condition((*path, "cel"), item["cel"], "`cel`")
            return Value(condition) if condition is not None else None
        return {str(key): _tree(reader, (*path, key), value) for key, value in item.items()}
    if isinstance(item, list):
        return tuple(_tree(reader, (*path, i), value) for i, value in enumerate(item))
    if isinstance(item, str):
        if not item:
            return Text("")
        text = reader.text(path, item, f"`{path[-1]}`")
        _check_quoted(reader, path, text)
        return text
    if item is None or isinstance(item, bool | int | float):
        return item
    reader.refuse(path, f"a parameter is JSON, not {type(item).__name__}")
    return None


def _check_quoted(reader: Reader, path: Path, text: Text) -> None:
    wanted = _QUOTED.get(str(path[-1]))
    if wanted is None or text.is_literal:
        return
    filled = _FILLED.findall(text.text)
    if "{%" in text.text or not all(re.search(rf"\|\s*{wanted}\s*$", part) for part in filled):
        reader.refuse(path, f"what is filled into `{path[-1]}` has to be quoted: {{{{ ... | {wanted} }}}}")


def _check_params(
    reader: Reader, path: Path, item: Mapping[str, object], tree: Mapping[str, ParamTree], declared: ActionDeclaration
) -> None:
    fields, before = (
        {field.encode_name: field for field in msgspec.structs.fields(declared.params)},
        len(reader.problems),
    )
    for key in item:
        if key not in fields:
            known = ", ".join(fields)
            reader.refuse((*path, key), f"{declared.name} has no parameter {key!r}; known: {known}", key=True)
    for name, field in fields.items():
        if name not in item:
            if field.required:
                reader.refuse(path, f"{declared.name} needs the parameter {name!r}")
        elif is_literal(tree[name]):
            try:
                msgspec.convert(item[name], field.type)
            except msgspec.ValidationError as error:
                reader.refuse((*path, name), f"{name}: {error}")
    if len(reader.problems) == before and is_literal(tree):
        try:
            msgspec.convert(item, declared.params)
        except msgspec.ValidationError as error:  # each is good by itself: they do not go together
            reader.refuse(path, f"{declared.name}: {error}")


def is_literal(tree: ParamTree) -> bool:
    """Whether a parameter is known before any alert: nothing in it is filled in or computed."""
    if isinstance(tree, Text):
        return tree.is_literal
    if isinstance(tree, Value):
        return False
    if isinstance(tree, Mapping):
        return all(is_literal(value) for value in tree.values())
    if isinstance(tree, tuple):
        return all(is_literal(value) for value in tree)
    return True


def names_of(tree: ParamTree) -> frozenset[str]:
    """The names that a parameter needs from the scope."""
    found: Condition | Text | None = tree.condition if isinstance(tree, Value) else None
    if isinstance(tree, Text):
        found = tree
    if found is not None:
        return found.names()
    if isinstance(tree, Mapping):
        return frozenset().union(*(names_of(value) for value in tree.values()))
    if isinstance(tree, tuple):
        return frozenset().union(*(names_of(value) for value in tree))
    return frozenset()
