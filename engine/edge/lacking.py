"""What executor and responder lack for the loaded runbooks, asked of each system before there is an alert.

Only questions are put: SelfSubjectAccessReview to Kubernetes, `has_..._privilege` to PostgreSQL, and to AWS KMS the
operations that only read. A KMS operation that changes something cannot be tried, nor can a Docker socket be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import asyncpg
import structlog

from engine.actions import AwsAccess, Environment, Permission, RefusedError
from engine.actions._kms import KmsApi
from engine.actions._kubernetes import KubernetesApi, NoAnswerError
from engine.actions._needs import Need, for_target, in_namespace
from engine.actions._sql import SqlGrant, SqlOwner, SqlPermission, SqlPrivilege, quoted
from engine.edge import kubernetes
from engine.edge.database import masked

Connect = Callable[[str], Awaitable[asyncpg.Connection]]
log = structlog.get_logger(__name__)
_UNREACHED = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, NoAnswerError, RefusedError)

_TABLE = "from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2"
_OWNED = f"select pg_has_role(c.relowner, 'usage') {_TABLE}"  # constants
_MAINTAINED = f"select pg_has_role(c.relowner, 'usage') or has_table_privilege(c.oid, 'MAINTAIN') {_TABLE}"
_ON_SCHEMA = "select has_schema_privilege(oid, $2) from pg_namespace where nspname = $1"
_READABLE = f"select has_table_privilege(c.oid, 'SELECT') {_TABLE}"
_MAINTAIN_SINCE = 170000
_EVENTS = {
    "executor": ("executor.permission_missing", "executor.permissions_unknown"),
    "responder": ("responder.permission_missing", "responder.permissions_unknown"),
}
_KMS_READS: Mapping[str, Callable[[str], dict[str, str]]] = {
    "kms:DescribeKey": lambda key: {"KeyId": key},
    "kms:GetKeyPolicy": lambda key: {"KeyId": key, "PolicyName": "default"},
    "kms:ListResourceTags": lambda key: {"KeyId": key},
    "kms:ListAliases": lambda key: {"KeyId": key},
    "kms:ListKeys": lambda key: {},
}


async def say_what_is_lacking(env: Environment, needs: Sequence[Need], namespaces: Iterable[str]) -> None:
    """Warn of each permission that the steps need and the executor's accounts lack."""
    if env.kubernetes is not None:
        await say_lacking_on_cluster("executor", env.kubernetes, needs, namespaces)
    await say_lacking_in_databases("executor", env.databases, needs, env.connect)
    in_kms = {f"kms {one}": lacking_in_kms(kms, for_target(needs, one)) for one, kms in env.kms.items()}
    for where, answer in in_kms.items():
        await _say("executor", where, answer, env.redact)


async def say_lacking_on_cluster(
    role: str, api: KubernetesApi, needs: Sequence[Need], namespaces: Iterable[str]
) -> None:
    """The same for the account that a role of Sentinel has on a cluster."""
    for one in namespaces:
        await _say(role, f"namespace {one}", kubernetes.lacking(api, in_namespace(needs, one), one), str)


async def say_lacking_in_databases(role: str, urls: Mapping[str, str], needs: Sequence[Need], connect: Connect) -> None:
    """The same for the users that a role of Sentinel has in its databases."""
    for name, url in urls.items():
        await _say(role, f"database {name}", _in_database(connect, url, for_target(needs, name)), masked)


async def _say(role: str, where: str, answer: Awaitable[list[str]], redact: Callable[[str], str]) -> None:
    """A system that gives no answer is said and passed over: the next alert may find it up."""
    missing, unknown = _EVENTS[role]
    try:
        for permission in await answer:
            log.warning(missing, where=where, permission=permission)
    except _UNREACHED as error:
        log.warning(unknown, where=where, reason=redact(str(error)))


async def _in_database(connect: Connect, url: str, permissions: list[Permission]) -> list[str]:
    wanted = [one for one in permissions if isinstance(one, SqlPermission)]
    if not wanted:
        return []
    conn = await connect(url)
    try:
        return await lacking_in_database(conn, wanted)
    finally:
        await conn.close()


async def lacking_in_database(conn: asyncpg.Connection, wanted: Iterable[SqlPermission]) -> list[str]:
    """The statements that would grant the connected role what it lacks; raises what asyncpg raises."""
    user = await conn.fetchval("select current_user::text")
    version = int(await conn.fetchval("select current_setting('server_version_num')"))
    out: list[str] = []
    for one in dict.fromkeys(_known_to(version, one) for one in wanted):
        query, *values = _question(one)
        try:
            held = await conn.fetchval(query, *values)
        except asyncpg.UndefinedObjectError as error:
            out.append(f"{one.statement(user)} -- {error}")
            continue
        if held is None:
            out.append(f"there is no {'.'.join(map(quoted, getattr(one, 'path', ())))} in this database")
        elif not held:
            out.append(one.statement(user))
    return out


def _known_to(version: int, one: SqlPermission) -> SqlPermission:
    """Servers before PostgreSQL 17 know no MAINTAIN: there the table's owner has it, and nobody else can."""
    if isinstance(one, SqlPrivilege) and one.privilege == "MAINTAIN" and version < _MAINTAIN_SINCE:
        schema, table = one.path
        return SqlOwner((schema, table))
    return one


def _question(one: SqlPermission) -> tuple[Any, ...]:
    """The query that tells whether the connected role has it, and its parameters; null if the thing is not there."""
    if isinstance(one, SqlGrant):
        return "select pg_has_role($1, 'usage')", one.role
    if isinstance(one, SqlOwner):
        return _OWNED, *one.path
    if one.kind == "TABLE":
        return (_READABLE if one.privilege == "SELECT" else _MAINTAINED), *one.path
    if one.kind == "SCHEMA":
        return _ON_SCHEMA, *one.path, one.privilege
    if one.kind == "PARAMETER":
        return "select has_parameter_privilege($1, $2)", ".".join(one.path), one.privilege
    return "select has_function_privilege($1, $2)", f"{'.'.join(map(quoted, one.path))}()", one.privilege


async def lacking_in_kms(api: KmsApi, wanted: Iterable[Permission]) -> list[str]:
    """The operations that KMS forbids of those that only read, tried on the key behind the alias."""
    actions = sorted({action for one in wanted if isinstance(one, AwsAccess) for action in one.actions})
    out: list[str] = []
    key = api.alias
    for action in actions:
        if (parameters := _KMS_READS.get(action)) is None:
            continue
        try:
            answer = await api.call(action.removeprefix("kms:"), **parameters(key))
        except RefusedError as error:
            if error.reason != "forbidden":
                raise
            out.append(error.message)
            if action == "kms:DescribeKey":
                break  # the others take no alias
            continue
        key = answer.get("KeyMetadata", {}).get("KeyId", key)
    return out
