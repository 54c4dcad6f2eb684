"""What must hold between the settings and the files that run with them."""

from __future__ import annotations

from collections.abc import Iterable

from engine.core.diagnostics import Problem
from engine.edge.settings_notify import NotifySettings
from engine.response.steps import Runbook


def unknown_receivers(runbooks: Iterable[Runbook], settings: NotifySettings) -> list[Problem]:
    """Every place where a runbook names somebody whom the settings do not know; none while they know nobody at all."""
    if not settings.is_configured:
        return []
    known = ", ".join(sorted(settings.receivers)) or "none"
    addresses = "" if settings.email.host else "; e-mail addresses need notify.email"
    return [
        Problem(
            runbook.file,
            named.line,
            named.column,
            f"nobody is called {named.receiver!r} in notify.receivers (there: {known}{addresses})",
        )
        for runbook in runbooks
        for named in runbook.names
        if not settings.knows(named.receiver)
    ]
