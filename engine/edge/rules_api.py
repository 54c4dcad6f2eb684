"""`/api/v1/rules` and `/api/v1/alerts` in Prometheus's format: the rules at work here and the alerts they hold.

Rules in LogQL are among them; Grafana shows their text as it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from engine.core.alert import ActiveAlert
from engine.core.group import NEVER, Group
from engine.core.rules import AlertRule, Rule
from engine.core.step import Shard
from engine.edge.prometheus_http import Parameters, bad_parameter, rfc3339, route, success
from engine.vector import format as fmt

NO_TIME = "0001-01-01T00:00:00Z"
_TYPES = {"": ("alerting", "recording"), "alert": ("alerting",), "record": ("recording",)}
_STATES = ("inactive", "pending", "firing")


class RulesApi:
    """`last_s` says by rule key how long the last evaluation took."""

    def __init__(self, shards: Mapping[int, Shard], last_s: Mapping[str, float]) -> None:
        self._shards = shards
        self._last_s = last_s

    def routes(self) -> list[web.RouteDef]:
        """Both of them."""
        return [*route(("GET",), "/api/v1/rules", self._rules), *route(("GET",), "/api/v1/alerts", self._alerts)]

    def _groups(self) -> list[Group]:
        found = (group for shard in self._shards.values() for group in shard.groups)
        return sorted(found, key=lambda group: (group.rules.file, group.rules.name))

    async def _rules(self, _: web.Request, parameters: Parameters) -> web.Response:
        wanted = _Wanted.of(parameters)
        groups = [shown for group in self._groups() if (shown := self._group(group, wanted)) is not None]
        return success({"groups": groups})

    async def _alerts(self, _: web.Request, __: Parameters) -> web.Response:
        alerts = [_alert(alert) for group in self._groups() for active in group.active for alert in _ordered(active)]
        return success({"alerts": alerts})

    def _group(self, group: Group, wanted: _Wanted) -> dict[str, Any] | None:
        rules = group.rules
        if not rules.rules or not wanted.takes_group(group):
            return None
        shown = [self._rule(group, index, rule, wanted) for index, rule in wanted.rules(group)]
        if not shown:
            return None
        return {
            "name": rules.name,
            "file": rules.file,
            "rules": shown,
            "interval": rules.interval_ms / 1000,
            "limit": rules.limit,
            "evaluationTime": sum(self._last_s.get(rule.key, 0.0) for rule in rules.rules),
            "lastEvaluation": _evaluated(group),
        }

    def _rule(self, group: Group, index: int, rule: Rule, wanted: _Wanted) -> dict[str, Any]:
        failure = group.failed.get(index)
        shown: dict[str, Any] = {"name": rule.name, "query": rule.expression.text}
        if isinstance(rule, AlertRule):
            shown |= _alerting(rule, _ordered(group.active[index]), with_alerts=wanted.alerts)
        else:
            shown["labels"] = dict(rule.labels)
        shown["health"] = "unknown" if group.evaluated_ms == NEVER else "err" if failure else "ok"
        if failure:
            shown["lastError"] = failure.reason
        shown["evaluationTime"] = self._last_s.get(rule.key, 0.0)
        shown["lastEvaluation"] = _evaluated(group)
        return {**shown, "type": _type(rule)}


@dataclass(frozen=True)
class _Wanted:
    """Which rules a request asks for; an empty set means all."""

    types: tuple[str, ...]
    names: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]
    alerts: bool

    @classmethod
    def of(cls, parameters: Parameters) -> _Wanted:
        types = _TYPES.get(parameters.text("type"))
        if types is None:
            raise bad_parameter("type", f'not supported value "{parameters.text("type")}" (alert or record)')
        names, groups, files = (frozenset(parameters.all(f"{one}[]")) for one in ("rule_name", "rule_group", "file"))
        return cls(types, names, groups, files, parameters.text("exclude_alerts") != "true")

    def takes_group(self, group: Group) -> bool:
        return (not self.groups or group.rules.name in self.groups) and (
            not self.files or group.rules.file in self.files
        )

    def rules(self, group: Group) -> Iterator[tuple[int, Rule]]:
        for index, rule in enumerate(group.rules.rules):
            if _type(rule) in self.types and (not self.names or rule.name in self.names):
                yield index, rule


def _type(rule: Rule) -> str:
    return "alerting" if isinstance(rule, AlertRule) else "recording"


def _alerting(rule: AlertRule, alerts: list[ActiveAlert], *, with_alerts: bool) -> dict[str, Any]:
    state = max((alert.state for alert in alerts), key=_STATES.index, default="inactive")
    return {
        "state": state,
        "duration": rule.for_ms / 1000,
        "keepFiringFor": rule.keep_firing_for_ms / 1000,
        "labels": {name: template.source for name, template in rule.labels.items()},
        "annotations": {name: template.source for name, template in rule.annotations.items()},
        "alerts": [_alert(alert) for alert in alerts] if with_alerts else [],
    }


def _alert(alert: ActiveAlert) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": alert.state,
        "activeAt": rfc3339(alert.active_since_ms),
        "value": fmt.exponent_number(alert.value),
    }
    if alert.kept_since_ms is not None:
        shown["keepFiringSince"] = rfc3339(alert.kept_since_ms)
    return shown


def _ordered(active: Mapping[str, ActiveAlert]) -> list[ActiveAlert]:
    return sorted(active.values(), key=lambda alert: sorted(alert.labels.items()))


def _evaluated(group: Group) -> str:
    return NO_TIME if group.evaluated_ms == NEVER else rfc3339(group.evaluated_ms)
