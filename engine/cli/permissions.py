"""`sentinel permissions`: what executor and responder must be allowed for the loaded runbooks, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
import yaml

from engine.cli.common import Config, Set, settings
from engine.cli.output import NO, Stop, complain, say, say_table, show_problem, table
from engine.edge.settings import Settings

if TYPE_CHECKING:
    from engine.actions._needs import Need
    from engine.response.runbook import Runbook

_ROLE_NAME = "aureus-sentinel-executor"
_NOTHING = "# no runbook reads or changes these namespaces"
_READER_NAME = "aureus-sentinel-responder"


class Format(StrEnum):
    """How permissions are printed."""

    text = "text"
    yaml = "yaml"
    sql = "sql"
    aws = "aws"


Paths = Annotated[
    list[Path] | None, typer.Argument(metavar="PATHS", help="Files and folders of runbooks; default rules.paths.")
]
Namespaces = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace", "-n", metavar="NAME", help="Repeatable; default executor.namespaces and responder.namespaces."
    ),
]
Account = Annotated[
    str,
    typer.Option(
        metavar="NAMESPACE/NAME[,NAME]",
        help="The service account that the executor runs as, and the responder's beside it.",
    ),
]
Role = Annotated[
    str,
    typer.Option(
        metavar="NAME[,NAME]",
        help="The executor's PostgreSQL role, and the responder's beside it, where their `databases` name none.",
    ),
]


def permissions(
    paths: Paths = None,
    format_: Annotated[
        Format,
        typer.Option("--format", help="`yaml`: RBAC for kubectl apply; `sql`: grants; `aws`: an identity policy."),
    ] = Format.text,
    namespace: Namespaces = None,
    account: Account = "aureus-sentinel/executor,responder",
    role: Role = "sentinel,sentinel_reader",
    config: Config = None,
    set_: Set = None,
) -> None:
    """Print what the runbooks' actions need of the executor's accounts, and their reads of the responder's: no more."""
    current = settings(config, set_).settings
    runbooks = _runbooks(paths or current.rules.paths)
    needs, reads = _needs(runbooks), _reads(runbooks)
    if format_ is Format.yaml:
        place, executor, responder = _accounts(account)
        manifests = _rbac(needs, namespace or current.executor.namespaces, (place, executor), _ROLE_NAME)
        manifests += _rbac(reads, namespace or current.responder.namespaces, (place, responder), _READER_NAME)
        say(yaml.safe_dump_all(manifests, sort_keys=False).rstrip() if manifests else _NOTHING)
    elif format_ is Format.sql:
        for line in _grants((needs, reads), current, role):
            say(line)
    elif format_ is Format.aws:
        _say_policy(needs, current)
    else:
        shown = table("RUNBOOK", "STEP", "ACTION", "NEEDS")
        for need in [*needs, *reads]:
            for one in need.permissions:
                shown.add_row(need.runbook, need.step, need.action, str(one))
        say_table(shown)


def _runbooks(paths: Iterable[Path]) -> list[Runbook]:
    from engine.loading import load  # brings the rule languages, which other commands start faster without

    loaded = load(paths)
    if loaded.errors:
        for problem in loaded.errors:
            complain(show_problem(problem))
        raise Stop("the runbooks cannot be used", NO)
    return loaded.runbooks


def _needs(runbooks: Iterable[Runbook]) -> list[Need]:
    from engine.actions import load_actions
    from engine.actions._needs import needs_of

    return list(needs_of(runbooks, load_actions()))


def _reads(runbooks: Iterable[Runbook]) -> list[Need]:
    from engine.actions._reads import reads_of

    return list(reads_of(runbooks))


def _accounts(account: str) -> tuple[str, str, str]:
    """The namespace of the accounts, the executor's and the responder's."""
    place, _, names = account.partition("/")
    executor, _, responder = names.partition(",")
    if not place or not executor:
        raise Stop(f"--account is NAMESPACE/NAME or NAMESPACE/NAME,NAME, not {account!r}")
    return place, executor, responder or "responder"


def _rbac(needs: list[Need], namespaces: list[str], account: tuple[str, str], role: str) -> list[dict[str, Any]]:
    """The manifests for one role of Sentinel, in each namespace that its needs may name."""
    from engine.actions._needs import in_namespace
    from engine.actions._permissions import merged_rules, rbac_manifests

    on_clusters = [need for need in needs if merged_rules(need.permissions)]
    if on_clusters and not namespaces:
        raise Stop("which namespaces? Set executor.namespaces and responder.namespaces or give --namespace")
    return [
        one
        for namespace in sorted(set(namespaces))
        for one in rbac_manifests(in_namespace(on_clusters, namespace), namespace, account, role)
    ]


def _grants(needs: tuple[list[Need], list[Need]], current: Settings, role: str) -> Iterator[str]:
    """The statements for executor and responder, by the databases that runbooks name."""
    executor, _, responder = role.partition(",")
    found: dict[str, list[str]] = {}
    for some, databases, who in (
        (needs[0], current.executor.databases, executor),
        (needs[1], current.responder.databases, responder or "sentinel_reader"),
    ):
        for name, statements in _statements(some, databases, who):
            found.setdefault(name, []).extend(statements)
    for name, statements in sorted(found.items()):
        yield f"-- database {name}"
        yield from statements


def _statements(needs: list[Need], databases: Mapping[str, str], role: str) -> Iterator[tuple[str, list[str]]]:
    """What one user has to be granted in each database; one that is named only at run time may be any of them."""
    from engine.actions._needs import for_target
    from engine.actions._sql import SqlPrivilege, sql_grants

    named = {need.target for need in needs if sql_grants(need.permissions, role)}
    for name in {*databases, *(one for one in named if not databases or "{" not in one)}:
        url = urlsplit(databases.get(name, ""))
        user = unquote(url.username) if url.username else role
        statements = sql_grants(for_target(needs, name), user)
        if database := unquote(url.path.strip("/")):
            statements.insert(0, SqlPrivilege("CONNECT", "DATABASE", (database,)).statement(user))
        if len(statements) > bool(database):
            yield name, statements


def _say_policy(needs: list[Need], current: Settings) -> None:
    from engine.actions._aws import AwsAccess, aws_policy
    from engine.actions._needs import for_target

    keys = current.executor.kms
    if not keys and any(isinstance(one, AwsAccess) for need in needs for one in need.permissions):
        raise Stop("which aliases? Set executor.kms")
    asked = [
        (one, key.alias, key.region)
        for name, key in sorted(keys.items())
        for one in for_target(needs, name)
        if isinstance(one, AwsAccess)
    ]
    say(json.dumps(aws_policy(asked), indent=2))
