"""One action on one target, in the steps in which the executor goes about it."""

from __future__ import annotations

from typing import Any

from engine.actions import Action, Check, Environment, Plan, Result, load_actions
from engine.core.messages import Target

ACTIONS = load_actions()


class Work:
    """An action by its name, on the target of this name; `params` as a runbook gives them."""

    def __init__(self, env: Environment, action: str, target: str, /, **params: Any) -> None:
        self.env = env
        self.action: Action = ACTIONS[action]
        self.target = Target(self.action.target_kind, target)
        self.params = self.action.decode_params(params)

    async def plan(self) -> Plan:
        return await self.action.plan(self.env, self.target, self.params)

    async def run(self, plan: Plan) -> Result:
        return await self.action.run(self.env, self.target, self.params, plan)

    async def verify(self, plan: Plan | None) -> Check:
        return await self.action.verify(self.env, self.target, self.params, plan)

    async def through(self) -> tuple[Plan, Result, Check]:
        """Plan, run, verify."""
        plan = await self.plan()
        return plan, await self.run(plan), await self.verify(plan)
