"""`postgres.vacuum`: make the space of dead rows in named tables usable again.

Never `VACUUM FULL`, and there is no parameter for it: it locks everybody out and needs the space of a copy, on a disk
that may just be full. Partitioned tables are refused, because the server does not say whether all partitions were done.
"""

from __future__ import annotations

from engine.actions import Action
from engine.actions import _postgres_maintenance as maintenance
from engine.actions._postgres import StatementLimit


class Params(maintenance.Params, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Tables with their schemas, e.g. `public.orders`; the longest time for each, and for its lock.

    With `analyze`, their statistics are collected as well.
    """

    analyze: bool = False
    timeout_s: StatementLimit = 1800.0


def _command(params: Params) -> str:
    return "vacuum (analyze)" if params.analyze else "vacuum"


_VACUUM = maintenance.Maintenance(
    verb="vacuum",
    command=_command,
    last="pg_stat_get_last_vacuum_time",
    kinds="rm",
    progress="pg_stat_progress_vacuum",
)
ACTION = Action(
    name="postgres.vacuum",
    summary="Make the space of dead rows usable again.",
    target_kind="postgres",
    params=Params,
    destructive=False,
    permissions=maintenance.PERMISSIONS,
    permissions_for=maintenance.permissions_for,
    plan=_VACUUM.plan,
    run=_VACUUM.run,
    verify=_VACUUM.verify,
)
