"""Making the command of an `act` step: filled in, checked against the action, and named by its content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from engine.core.messages import Command, Target
from engine.response.conditions import RenderError, Scope, Text
from engine.response.model import Context, IncidentState
from engine.response.steps import Act, ParamTree, Step, Value

_TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-/]{0,252}")
_encoder = msgspec.json.Encoder(order="deterministic")


class CommandError(Exception):
    """A command cannot be made from this evidence; no command is better than a wrong one."""


def describe(command: Command) -> str:
    """A command as people read it, with all that it would do.

    E.g. `POST /api/admin/blocklist {"user_id":"mallory"} on openclaw (http.request)`; other actions as
    `postgres.terminate_idle on main {"idle_minutes":5}`.
    """
    params = dict(command.params)
    if command.action != "http.request":
        return f"{command.action} on {command.target.name}" + (f" {_json(params)}" if params else "")
    call = f"{params.get('method', '')} {params.get('path', '')}".strip()
    body = f" {_json(params['json'])}" if params.get("json") is not None else ""
    return f"{call}{body} on {command.target.name} ({command.action})"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def is_empty(subject: object) -> bool:
    """Whether there is nothing to act on."""
    return subject is None or subject in ("", [], {})


def make_command(state: IncidentState, step: Step, act: Act, scope: Scope, context: Context) -> Command:
    """The command of a step in this state. Raises `CommandError`."""
    declared = context.actions.get(act.action)
    if declared is None:
        raise CommandError(f"the action {act.action} is not there")
    try:
        name = act.target.render(scope)
        params = {key: fill(value, scope) for key, value in act.params.items()}
    except RenderError as error:
        raise CommandError(str(error)) from error
    if not _TARGET_NAME.fullmatch(name):
        raise CommandError(f"{name!r} is not the name of a target")
    try:
        msgspec.convert(params, declared.params)
    except msgspec.ValidationError as error:
        raise CommandError(f"parameters of {act.action}: {error}") from error
    target = Target(declared.target_kind, name)
    return Command(
        id=command_id(state, step.name, act.action, target, params),
        incident=state.id,
        rule=state.alert.rule,
        runbook=state.runbook,
        step=step.name,
        action=act.action,
        target=target,
        params=params,
        severity=state.severity,
        issued_ms=context.now_ms,
        expires_ms=context.now_ms + act.expires_ms,
        namespace=state.alert.labels.get("namespace", ""),
        mark=context.mark,
        labels=state.alert.labels,
        priority=state.priority,
    )


def command_id(state: IncidentState, step: str, action: str, target: Target, params: Mapping[str, object]) -> str:
    """The id of a decision: the same decision, made again after a crash, has the same id."""
    identity = [state.id, step, state.attempt, action, target.key(), params]
    return hashlib.blake2b(_encoder.encode(identity), digest_size=16).hexdigest()


def fill(value: ParamTree, scope: Scope) -> object:
    """A parameter with its texts and CEL values filled in. Raises `RenderError`, also for a text that comes out empty.

    An empty text is refused because it is the usual way in which "this one" becomes "all of them".
    """
    if isinstance(value, Text):
        out = value.render(scope)
        if not out and not value.is_literal:
            raise RenderError(f"`{value.text}`: is empty")
        return out
    if isinstance(value, Value):
        return value.condition.value(scope)
    if isinstance(value, Mapping):
        return {key: fill(item, scope) for key, item in value.items()}
    if isinstance(value, tuple):
        return [fill(item, scope) for item in value]
    return value
