"""What runbooks want to do and to ask, held against the settings: what these do not allow or name is a warning.

A warning and no error, as each role may have settings of its own: the executor refuses what its own do not allow. What
a template fills in cannot be seen here, so only what is written out is looked up. Who is to be told and is nobody is an
error where the settings say who can be told: they are then those of the notifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from engine.core.diagnostics import Problem
from engine.edge.settings import Settings
from engine.edge.settings_notify import NotifySettings
from engine.response.steps import (
    Act,
    Actions,
    Body,
    HttpSource,
    Investigate,
    KubernetesSource,
    LogqlSource,
    Name,
    PostgresSource,
    Runbook,
    Step,
    Verify,
)

_LISTS: Mapping[str, str] = {
    "http": "hosts",
    "postgres": "databases",
    "kubernetes": "namespaces",
    "compose": "compose",
    "kms": "kms",
}
"""The settings of the executor that name what a kind of target may be."""


def unconfigured(runbooks: Iterable[Runbook], settings: Settings, actions: Actions) -> Iterator[Problem]:
    """A warning for each action, target and source that the settings do not know, at the first step that needs it."""
    places: dict[str, list[tuple[Runbook, Step]]] = {}
    for runbook in runbooks:
        for step in runbook.steps:
            for message in [*_acting(step.body, settings, actions), *_asking(step.body, settings)]:
                places.setdefault(message, []).append((runbook, step))
    for message, [(runbook, step), *others] in places.items():
        named = f"step {step.name}" + (f" and {len(others)} more" if others else "")
        yield Problem(runbook.file, step.line, step.column, f"{named}: {message}", "warning")


def unknown_receivers(runbooks: Iterable[Runbook], settings: NotifySettings) -> list[Problem]:
    """Every place where a runbook names somebody whom the settings do not know; none while they know nobody at all."""
    if not settings.is_configured:
        return []
    known = ", ".join(sorted(settings.receivers)) or "none"
    addresses = "" if settings.email.host else "; e-mail addresses need notify.email"
    found = {
        Problem(
            named.file or runbook.file,
            named.line,
            named.column,
            f"nobody is called {named.receiver!r} in notify.receivers (there: {known}{addresses})",
        )
        for runbook in runbooks
        for named in runbook.names
        if not settings.knows(named.receiver)
    }
    return sorted(found)


def _acting(body: Body, settings: Settings, actions: Actions) -> Iterator[str]:
    if not isinstance(body, Act):
        return
    executor, kind = settings.executor, actions[body.action].target_kind
    if body.action not in executor.allow_actions:
        yield f"the action {body.action} is not in executor.allow_actions, so it is refused"
    name = body.target.text if kind in ("http", "postgres", "kms") else body.target.text.partition("/")[0]
    if kind in _LISTS and not _is_known(name, getattr(executor, _LISTS[kind])):
        yield f"{_lacking(name, f'executor.{_LISTS[kind]}')}, so what acts there is refused"


def _asking(body: Body, settings: Settings) -> Iterator[str]:
    asked = body.fresh if isinstance(body, Verify) else body
    if not isinstance(asked, Investigate):
        return
    source, responder = asked.source, settings.responder
    if isinstance(source, PostgresSource) and not _is_known(source.database, responder.databases):
        yield f"{_lacking(source.database, 'responder.databases')}, so nothing is found out"
    elif isinstance(source, HttpSource) and not _is_known(source.host, responder.hosts):
        yield f"{_lacking(source.host, 'responder.hosts')}, so nothing is found out"
    elif isinstance(source, LogqlSource) and responder.loki is None:
        yield "no responder.loki is set, so nothing is found out"
    elif isinstance(source, KubernetesSource):
        namespace = source.target.text.partition("/")[0]
        if not _is_known(namespace, responder.namespaces):
            yield f"{_lacking(namespace, 'responder.namespaces')}, so nothing is found out"


def _lacking(name: Name, setting: str) -> str:
    """What is lacking; of a name that is not written out only that there is none at all (see `_is_known`)."""
    return f"{name!r} is not in {setting}" if _is_literal(name) else f"{setting} is empty"


def _is_known(name: Name, configured: Iterable[str]) -> bool:
    """Whether a name is configured; one that a template or CEL gives may be any of them, if there is one."""
    names = set(configured)
    return name in names if _is_literal(name) else bool(names)


def _is_literal(name: Name) -> bool:
    return isinstance(name, str) and "{" not in name
