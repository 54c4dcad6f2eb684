"""`postgres.analyze`: collect the statistics of named tables anew, so that the planner sees them as they are."""

from __future__ import annotations

from engine.actions import Action
from engine.actions._postgres_maintenance import PERMISSIONS, Maintenance, Params, permissions_for

_ANALYZE = Maintenance(
    verb="analyze",
    command=lambda params: "analyze",
    last="pg_stat_get_last_analyze_time",
    kinds="rmp",
    progress="pg_stat_progress_analyze",
)
ACTION = Action(
    name="postgres.analyze",
    summary="Collect the planner's statistics of tables.",
    target_kind="postgres",
    params=Params,
    destructive=False,
    permissions=PERMISSIONS,
    permissions_for=permissions_for,
    plan=_ANALYZE.plan,
    run=_ANALYZE.run,
    verify=_ANALYZE.verify,
)
