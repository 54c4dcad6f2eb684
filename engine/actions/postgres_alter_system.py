"""`postgres.alter_system`: change one setting of the server, if the executor's allow-list has it, and reload.

The value is held against what the server says of the setting (`pg_settings`: type, unit, limits, choices) and then
sent in the setting's own unit. Refused are settings that need a restart, those that are set elsewhere with more weight
(the change would not be seen), and texts: nothing could check them, and some of them are shell commands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import asyncpg
from msgspec import Meta, Struct

from engine.actions import (
    Action,
    Check,
    Environment,
    Permission,
    Plan,
    RefusedError,
    Result,
    SqlGrant,
    SqlNote,
    SqlPrivilege,
    Undo,
)
from engine.actions._postgres import (
    ask,
    connection,
    execute,
    failure,
    refuse_other_server,
    require_member,
    server_of,
    set_limits,
)
from engine.core.messages import Target

_STATEMENT_S = 10.0
_LOCK_S = 5.0
_ROUNDS = 20
_PAUSE_S = 0.25
_AUTO_FILE = "postgresql.auto.conf"
_OUTWEIGHS = ("command line", "global", "database", "user", "database user", "client", "override", "session")
_RELOADED = ("sighup", "superuser-backend", "backend", "superuser", "user")

_SETTING = """
select s.name, s.vartype as type, s.context, s.unit, s.min_val as min, s.max_val as max, s.enumvals as choices,
       s.setting as value, s.source, s.sourcefile as file, s.pending_restart,
       (select string_agg(quote_ident(part), '.' order by place)
        from unnest(string_to_array(s.name, '.')) with ordinality as p(part, place)) as quoted,
       has_parameter_privilege(s.name, 'ALTER SYSTEM') as alterable,
       has_function_privilege('pg_reload_conf()', 'execute') as reloadable
from pg_settings s where lower(s.name) = lower($1)
"""
# Multiples of a byte and of a microsecond, as the server writes units: they are case-sensitive.
_BYTES = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_MICROSECONDS = {"us": 1, "ms": 10**3, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_OWN_UNIT = re.compile(r"([0-9]*)([A-Za-z]+)")  # of a setting: also blocks, such as 8kB
_SWITCH = {"on": "on", "off": "off", "true": "on", "false": "off"}


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """A setting and its new value; without a value, what `alter system` said of it before is taken back.

    A number counts in the setting's own unit; a text may name another, as in postgresql.conf: `64MB`, `5min`.
    """

    setting: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=63)]
    value: bool | int | float | Annotated[str, Meta(min_length=1, max_length=100)] | None = None


class Setting(Struct, frozen=True):
    """A row of `pg_settings`, its name quoted, and whether the connected role may change it."""

    name: str
    type: str
    context: str
    unit: str | None
    min: str | None
    max: str | None
    choices: list[str] | None
    value: str
    source: str
    file: str | None
    pending_restart: bool
    quoted: str
    alterable: bool
    reloadable: bool

    @property
    def altered(self) -> bool:
        """Whether its value comes from an earlier `alter system`."""
        return self.file is not None and self.file.rpartition("/")[2] == _AUTO_FILE


def server_value(setting: Setting, value: bool | float | str) -> str:
    """A value as `pg_settings.setting` would show it. Raises `RefusedError` (`bad_value`) with what is allowed."""
    if setting.type == "bool":
        word = str(value).lower()
        if word in _SWITCH:
            return _SWITCH[word]
        raise RefusedError("bad_value", f"{setting.name} is on or off, not {value!r}")
    if setting.type == "enum":
        word = ("on" if value else "off") if isinstance(value, bool) else str(value).lower()
        if word in (setting.choices or []):
            return word
        raise RefusedError("bad_value", f"{setting.name} is one of {', '.join(setting.choices or [])}, not {value!r}")
    number = _in_unit(setting, value)
    low, high = Decimal(setting.min or "-Infinity"), Decimal(setting.max or "Infinity")
    if not low <= number <= high:
        unit = f" {setting.unit}" if setting.unit else ""
        raise RefusedError("bad_value", f"{setting.name} is from {setting.min} to {setting.max}{unit}, not {number}")
    if setting.type == "integer":
        if number != number.to_integral_value():
            raise RefusedError("bad_value", f"{setting.name} is a whole number of {setting.unit or '1'}, not {number}")
        return str(int(number))
    return format(number.normalize(), "f")


def _in_unit(setting: Setting, value: bool | float | str) -> Decimal:
    written = None if isinstance(value, bool) else _NUMBER.fullmatch(str(value))
    try:
        number = Decimal(written[1] if written is not None else "")
    except InvalidOperation:
        raise RefusedError("bad_value", f"{setting.name} is a number, not {value!r}") from None
    unit = written[2] if written is not None else ""
    own = _OWN_UNIT.fullmatch(setting.unit or "")
    if not unit:
        return number
    for units in (_BYTES, _MICROSECONDS):
        if own is not None and own[2] in units and unit in units:
            return number * units[unit] / (int(own[1] or 1) * units[own[2]])
    raise RefusedError("bad_value", f"{setting.name} counts in {setting.unit or 'no unit'}; {unit!r} does not fit")


def same_value(setting: Setting, wished: str) -> bool:
    """Whether the setting has this value; numbers are compared as numbers."""
    if setting.type in ("integer", "real"):
        return math.isclose(float(setting.value), float(wished), rel_tol=1e-9)
    return setting.value == wished


def refuse_setting(setting: Setting) -> None:
    """Raise `RefusedError` for a setting that cannot be changed in this way, whatever the value."""
    name = setting.name
    if setting.context == "internal":
        raise RefusedError("setting_is_fixed", f"{name} is fixed")
    if setting.context not in _RELOADED:
        raise RefusedError("needs_restart", f"{name} takes effect only when the server is restarted")
    if setting.type == "string":
        raise RefusedError("value_not_checkable", f"{name} is a text, which the server's catalogue cannot check")
    if setting.source in _OUTWEIGHS:
        raise RefusedError("setting_overridden", f"{name} is set by {setting.source}, which outweighs alter system")


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The setting now and after; nothing if it is so already."""
    async with connection(env, target) as conn:
        server = await server_of(conn, primary=False)
        setting, wished = await _survey(env, conn, params)
    if setting.altered if wished is None else not same_value(setting, wished):
        change = {
            "server": server,
            "setting": setting.name,
            "unit": setting.unit,
            "before": setting.value,
            "before_source": setting.source,
            "altered_before": setting.altered,
            "after": wished,
        }
        return Plan(f"{_statement(setting, wished)} in {target.name}, now {setting.value}", [change])
    return Plan(f"nothing to do: {setting.name} is {setting.value} by {setting.source}", [])


async def _survey(env: Environment, conn: asyncpg.Connection, params: Params) -> tuple[Setting, str | None]:
    """The setting and the wished value. Raises `RefusedError` for what stands against the change."""
    if params.setting.lower() not in {name.lower() for name in env.postgres_settings}:
        raise RefusedError("setting_not_allowed", f"{params.setting} is not in executor.postgres_settings")
    await require_member(conn, "pg_read_all_settings")
    row = await conn.fetchrow(_SETTING, params.setting)
    if row is None:
        raise RefusedError("no_such_setting", f"the server has no setting {params.setting}")
    setting = Setting(**dict(row))
    refuse_setting(setting)
    user = await conn.fetchval("select quote_ident(current_user)")
    if not setting.alterable:
        raise RefusedError("forbidden", f"grant alter system on parameter {setting.quoted} to {user}")
    if not setting.reloadable:
        raise RefusedError("forbidden", f"grant execute on function pg_reload_conf() to {user}")
    return setting, None if params.value is None else server_value(setting, params.value)


def _statement(setting: Setting, wished: str | None) -> str:
    """The value is a number, or a word out of the server's own list, so quotes around it are enough."""
    if wished is None:
        return f"alter system reset {setting.quoted}"
    return f"alter system set {setting.quoted} = '{wished}'"


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Change it, if it is still as planned, and reload."""
    (change,) = plan.changes
    async with connection(env, target) as conn:
        await refuse_other_server(conn, plan)
        setting, wished = await _survey(env, conn, params)
        if (setting.value, setting.altered) != (change["before"], change["altered_before"]):
            raise RefusedError("setting_changed", f"{setting.name} is {setting.value}, planned for {change['before']}")
        await set_limits(conn, _STATEMENT_S, _LOCK_S)
        detail: dict[str, Any] = {"statement": _statement(setting, wished), "reloaded": False}
        try:
            await execute(conn, detail["statement"], _STATEMENT_S)
            detail["reloaded"] = await conn.fetchval("select pg_reload_conf()")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return failure(env, error, detail)
    return Result("done", "changed", detail) if detail["reloaded"] else Result("failed", "not_reloaded", detail)


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether new connections have the planned value. The server takes a moment to reload."""
    for attempt in range(_ROUNDS):
        if attempt:
            await env.sleep(_PAUSE_S)
        check = await ask(env, target, plan, _check)
        if check.state != "no":
            break
    return check


async def _check(conn: asyncpg.Connection, plan: Plan) -> Check:
    await require_member(conn, "pg_read_all_settings")
    for change in plan.changes:
        setting = Setting(**dict(await conn.fetchrow(_SETTING, change["setting"])))
        wished, where = change["after"], f"{setting.name} is {setting.value} by {setting.source}"
        if setting.pending_restart:
            return Check("no", f"{where}, and its change waits for a restart")
        if setting.altered if wished is None else not same_value(setting, wished):
            return Check("no", where)
    return Check("yes", "; ".join(f"{change['setting']} is as planned" for change in plan.changes) or "as planned")


def undo(params: Params, plan: Plan) -> Undo | None:
    """The value that `alter system` had set before, or none."""
    if not plan.changes:
        return None
    (change,) = plan.changes
    before = change["before"] if change["altered_before"] else None
    return Undo("postgres.alter_system", {"setting": change["setting"], "value": before})


_RELOAD = SqlPrivilege("EXECUTE", "FUNCTION", ("pg_catalog", "pg_reload_conf"))


def _permissions_for(literal: Mapping[str, Any]) -> tuple[Permission, ...] | None:
    name = literal.get("setting")
    if not isinstance(name, str):
        return None
    parameter = SqlPrivilege("ALTER SYSTEM", "PARAMETER", tuple(name.split(".")))
    return SqlGrant("pg_read_all_settings"), _RELOAD, parameter


ACTION = Action(
    name="postgres.alter_system",
    summary="Change a setting of the server that needs no restart.",
    target_kind="postgres",
    params=Params,
    destructive=True,
    permissions=(
        SqlGrant("pg_read_all_settings"),
        _RELOAD,
        SqlNote("ALTER SYSTEM on each parameter of executor.postgres_settings"),
    ),
    permissions_for=_permissions_for,
    plan=plan,
    run=run,
    verify=verify,
    undo=undo,
)
