"""What an action needs to be allowed in PostgreSQL, as data, and the statements that grant exactly that.

Source: the PostgreSQL manual, GRANT and "Predefined Roles". `MAINTAIN` and `pg_maintain` are there since version 17.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_NAME = r'(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"$]|"")+)")'  # no $, which would end what is quoted by them
_TABLE = re.compile(rf"\s*{_NAME}\s*\.\s*{_NAME}\s*")
_OWNER_GRANT = """\
DO $grant$ DECLARE owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n
  ON n.oid = c.relnamespace WHERE n.nspname = {schema} AND c.relname = {table});
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = owner) THEN
    RAISE EXCEPTION 'the superuser % owns the table: give it to another role first', owner;
  END IF;
  IF owner <> {role} THEN EXECUTE format('GRANT %I TO %I', owner, {role}); END IF;
END $grant$;"""


@dataclass(frozen=True)
class SqlGrant:
    """Membership of a PostgreSQL role; `why` says why nothing more exact could be asked for."""

    role: str
    why: str = ""

    def __str__(self) -> str:
        return f"member of {self.role}"

    def statement(self, to: str) -> str:
        """The statement that grants it to a role."""
        return f"{f'-- {self.why}{chr(10)}' if self.why else ''}GRANT {self.role} TO {quoted(to)};"


@dataclass(frozen=True)
class SqlPrivilege:
    """A privilege on a thing of a database, e.g. MAINTAIN on the TABLE of the path (`shop`, `orders`)."""

    privilege: Literal["MAINTAIN", "SELECT", "USAGE", "CREATE", "CONNECT", "ALTER SYSTEM", "EXECUTE"]
    kind: Literal["TABLE", "SCHEMA", "DATABASE", "PARAMETER", "FUNCTION"]
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.privilege} on {self.kind.lower()} {'.'.join(self.path)}"

    def statement(self, to: str) -> str:
        """The statement that grants it to a role."""
        name = ".".join(map(quoted, self.path)) + ("()" if self.kind == "FUNCTION" else "")
        grant = f"GRANT {self.privilege} ON {self.kind} {name} TO {quoted(to)};"
        if self.privilege != "MAINTAIN":
            return grant
        return f"{grant}\n-- before PostgreSQL 17 there is no MAINTAIN: grant the role that owns {name} instead"


@dataclass(frozen=True)
class SqlOwner:
    """The rights of the role that owns a table; a superuser's table has to be given to another role first."""

    path: tuple[str, str]

    def __str__(self) -> str:
        return f"member of the owner of {'.'.join(self.path)}"

    def statement(self, to: str) -> str:
        """The statement that looks up the owner and grants it to a role."""
        schema, table = map(_literal, self.path)
        return _OWNER_GRANT.format(schema=schema, table=table, role=_literal(to))


@dataclass(frozen=True)
class SqlNote:
    """What has to be granted and cannot be written out, as it is known only at run time."""

    text: str

    def __str__(self) -> str:
        return self.text

    def statement(self, to: str) -> str:
        """A comment."""
        return f"-- {quoted(to)} needs besides: {self.text}"


SqlPermission = SqlGrant | SqlPrivilege | SqlOwner


def table_path(text: object) -> tuple[str, str] | None:
    """The schema and the table that PostgreSQL takes a text for, e.g. `public."Order Items"`; None for any other."""
    found = _TABLE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    plain = [one.lower() if one else other.replace('""', '"') for one, other in (found.group(1, 2), found.group(3, 4))]
    return plain[0], plain[1]


def table_paths(texts: object) -> list[tuple[str, str]] | None:
    """The same for a list of texts; None if one of them is no table with its schema, or there is no list."""
    found = [table_path(text) for text in texts] if isinstance(texts, list) else [None]
    known = [path for path in found if path is not None]
    return known if len(known) == len(found) else None


def sql_grants(permissions: Iterable[object], role: str) -> list[str]:
    """The statements that give a PostgreSQL role what is asked for, each once, sorted."""
    asked = {one for one in permissions if isinstance(one, SqlPermission | SqlNote)}
    return sorted({one.statement(role) for one in asked}, key=lambda text: (text.startswith("DO"), text))


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    """A text as SQL takes it. Braces are none here: it is put into a statement once."""
    return "'" + text.replace("'", "''") + "'"
