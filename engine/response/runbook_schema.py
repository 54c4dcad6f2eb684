"""The JSON Schema of runbook files, for editors: made from the declarations that the reader goes by.

An editor completes and checks keys, kinds and parameters with it. What needs more than one place to be seen (steps that
are never reached, names, types of conditions, queries) only `sentinel check` tells.

Source: JSON Schema, draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from engine.response.steps import READS, ActionDeclaration, Actions, Mode, Priority

Schema = dict[str, Any]

_DURATION = "^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$"
_NAME = "^[A-Za-z_][A-Za-z0-9_]*$"
_DEFINED: Mapping[str, Schema] = {
    "cel": {"description": "A CEL expression.", "type": ["string", "boolean", "number"]},
    "text": {"description": "A text, Jinja in a sandbox.", "type": "string", "minLength": 1},
    "duration": {
        "description": "Such as 30s, 5m or 1h30m.",
        "anyOf": [{"type": "string", "pattern": _DURATION, "minLength": 1}, {"const": 0}],
    },
    "step_name": {"description": "A step further below, or `end`.", "type": "string", "pattern": _NAME},
    "priority": {"enum": list(get_args(Priority))},
    "matchers": {"type": ["string", "array"], "items": {"type": "string", "minLength": 1}, "minItems": 1},
    "names": {"type": ["string", "array"], "items": {"type": "string", "minLength": 1}},
    "template": {"description": "A text that is filled in.", "type": "string", "pattern": r"\{[{%]"},
    "computed": {
        "description": "A value that CEL computes; it keeps its type.",
        "type": "object",
        "properties": {"cel": {"$ref": "#/$defs/cel"}},
        "required": ["cel"],
        "additionalProperties": False,
    },
    "cel_by_name": {"type": "object", "additionalProperties": {"$ref": "#/$defs/cel"}},
}


def schema(actions: Actions) -> Schema:
    """The schema of a runbook file, with the parameters of these actions."""
    defined = {
        **_DEFINED,
        "levels": _levels(),
        "escalation": _escalation(),
        "runbook": _runbook(),
        "step": _step(),
        "investigate": _investigate(),
    }
    defined |= {"act": _act(actions, asks=False), "ask": _act(actions, asks=True)}
    defined |= {f"params.{name}": _params(declared) for name, declared in sorted(actions.items())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Aureus Sentinel runbooks",
        **_mapping(
            {
                "runbooks": {"type": "array", "items": _ref("runbook")},
                "defaults": _mapping({"escalation": _ref("escalation")}, ["escalation"]),
            },
            anyOf=_one_of(["runbooks", "defaults"]),
        ),
        "$defs": defined,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _mapping(properties: Mapping[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    whole = {"type": "object", "properties": dict(properties), "required": list(required)}
    return whole | {"additionalProperties": False} | more


def _one_of(keys: Iterable[str]) -> list[Schema]:
    """Exactly one of the keys is there."""
    return [{"required": [key]} for key in keys]


def _count(most: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most}


def _runbook() -> Schema:
    per_severity = {"type": "object", "additionalProperties": _ref("priority"), "required": ["default"]}
    limits = {key: _ref("duration") for key in ("cooldown", "stabilisation", "reopen")}
    explained = _mapping({"match": _ref("matchers"), "equal": _ref("names")}, ["match"])
    return _mapping(
        {
            "name": {"type": "string", "minLength": 1},
            "match": {"description": 'Such as severity="critical"; all must hold.', **_ref("matchers")},
            "priority": {"anyOf": [_ref("priority"), per_severity, {"type": "string", "not": {"pattern": r"^P\w*$"}}]},
            "group_by": _ref("names"),
            "limits": _mapping({**limits, "budget_per_hour": _count(1_000_000)}),
            "escalation": _ref("escalation"),
            "explains": {"type": "array", "items": explained},
            "summary": _ref("text"),
            "follow_up": {"type": "array", "items": _ref("text")},
            "steps": {"type": "array", "items": _ref("step"), "minItems": 1},
        },
        ["name", "match", "priority", "steps"],
    )


def _escalation() -> Schema:
    """One chain, or one for each priority."""
    some = [{"required": ["default"]}, {"required": list(get_args(Priority))}]
    chains = dict.fromkeys([*get_args(Priority), "default"], _ref("levels"))
    return {"anyOf": [_ref("levels"), _mapping(chains, anyOf=some)]}


def _levels() -> Schema:
    level = _mapping({"to": _ref("names"), "after": _ref("duration")}, ["to"])
    return {"type": "array", "items": level, "minItems": 1}


def _step() -> Schema:
    chosen = _mapping({"if": _ref("cel"), "then": _ref("step_name"), "because": _ref("text")}, ["if", "then"])
    otherwise = _mapping({"else": _ref("step_name"), "because": _ref("text")}, ["else"])
    verify = {"stabilisation": _ref("duration"), "investigate": _ref("investigate"), "expect": _ref("cel")}
    kinds: Mapping[str, Schema] = {
        "investigate": _ref("investigate"),
        "decide": {"type": "array", "items": {"anyOf": [chosen, otherwise]}, "contains": otherwise, "maxContains": 1},
        "act": _ref("act"),
        "ask": _ref("ask"),
        "wait": _ref("duration"),
        "verify": {"anyOf": [{"type": "null"}, _mapping({**verify, "on_failure": _ref("step_name")})]},
        "notify": _mapping({"to": _ref("names"), "text": _ref("text")}, ["text"]),
        "escalate": _mapping({"to": _ref("names"), "text": _ref("text")}, ["text"]),
    }
    named = {"name": {"type": "string", "pattern": _NAME}, "next": _ref("step_name")}
    return _mapping({**named, **kinds}, ["name"], oneOf=_one_of(kinds), dependentSchemas={"decide": {"not": _next()}})


def _next() -> Schema:
    return {"required": ["next"]}


def _investigate() -> Schema:
    text = {"type": "string", "minLength": 1, "not": {"pattern": r"\{[{%#]"}}
    name = {"anyOf": [text, _ref("computed")]}
    sources: Mapping[str, Schema] = {
        "postgres": _mapping(
            {"database": name, "query": text, "params": {"type": "array", "items": _ref("cel")}}, ["database", "query"]
        ),
        "promql": _mapping({"query": text, "params": _ref("cel_by_name")}, ["query"]),
        "logql": _mapping(
            {"query": text, "params": _ref("cel_by_name"), "since": _ref("duration"), "limit": _count(1_000)}, ["query"]
        ),
        "kubernetes": _kubernetes(),
        "http": _mapping(
            {"host": name, "path": {"type": "string", "pattern": "^/"}, "params": _ref("cel_by_name")}, ["host", "path"]
        ),
    }
    more = {"timeout": _ref("duration"), "max_rows": _count(1_000), "on_failure": _ref("step_name")}
    return _mapping({**sources, **more}, oneOf=_one_of(sources))


def _kubernetes() -> Schema:
    """A target's kind fits what is read, where it is written out."""
    choices = [
        {
            "if": {"properties": {"read": {"const": read}}},
            "then": {"properties": {"target": _target(kinds), **({} if read == "logs" else {"tail": False})}},
        }
        for read, kinds in READS.items()
    ]
    named = {"read": {"enum": list(READS)}, "target": _ref("text"), "tail": _count(1_000)}
    return _mapping(named, ["read", "target"], allOf=choices)


def _target(kinds: Iterable[str]) -> Schema:
    return {"anyOf": [_ref("template"), {"pattern": f"^[^/]+/({'|'.join(kinds)})/[^/]+$"}]}


def _act(actions: Actions, *, asks: bool) -> Schema:
    more: Schema = {"question": _ref("text"), "mode": False} if asks else {"mode": {"enum": list(get_args(Mode))}}
    properties: Mapping[str, Schema] = {
        "action": {"enum": sorted(actions)},
        "target": _ref("text"),
        "params": {"type": "object"},
        "subject": _ref("cel"),
        "expires": _ref("duration"),
        "on_empty": _ref("step_name"),
        "on_failure": _ref("step_name"),
        "even_if_ended": {"type": "boolean"},
        **more,
    }
    needed = ["action", "target", "question"] if asks else ["action", "target"]
    return _mapping(properties, needed, allOf=[_choice(actions[name]) for name in sorted(actions)])


def _choice(declared: ActionDeclaration) -> Schema:
    """What holds for a step of this action: its parameters, and the kind of its target where it is written out."""
    properties = {"params": _ref(f"params.{declared.name}")}
    if declared.object_kinds:
        properties["target"] = _target(declared.object_kinds)
    needed = [field for field in msgspec.structs.fields(declared.params) if field.required]
    then: Schema = {"properties": properties, "required": ["params"] if needed else []}
    return {"if": {"properties": {"action": {"const": declared.name}}, "required": ["action"]}, "then": then}


def _params(declared: ActionDeclaration) -> Schema:
    """The parameters of an action; in place of a value a computed one may stand, of a text one that is filled in."""
    whole = msgspec.json.schema(declared.params)
    return _loosened(whole, whole.get("$defs", {}), is_root=True)


def _loosened(part: Schema, defined: Mapping[str, Schema], *, is_root: bool = False) -> Schema:
    if "$ref" in part:
        named = defined[part["$ref"].removeprefix("#/$defs/")]
        return _loosened({**named, **{k: v for k, v in part.items() if k[0] != "$"}}, defined, is_root=is_root)
    kept = {key: value for key, value in part.items() if key != "title"}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _loosened(kept[key], defined)
    if "anyOf" in kept:
        kept["anyOf"] = [_loosened(one, defined) for one in kept["anyOf"]]
    if "properties" in kept:
        kept["properties"] = {name: _loosened(one, defined) for name, one in kept["properties"].items()}
    if is_root or "anyOf" in kept or not kept.keys() & {"type", "enum"}:
        return kept
    described: Schema = {}
    for key in kept.keys() & {"description", "default"}:
        described[key] = kept.pop(key)
    filled = [_ref("template")] if kept.get("type") == "string" or "enum" in kept else []
    return {**described, "anyOf": [kept, *filled, _ref("computed")]}
