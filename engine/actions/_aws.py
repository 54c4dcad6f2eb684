"""What an action needs to be allowed in AWS, as data, and the identity policy that allows exactly that.

Source: the AWS KMS developer guide, "Permissions reference" and "Condition keys".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

_OWN = "aws:ResourceTag/aureus-sentinel/alias"
_REQUESTED = "aws:RequestTag/aureus-sentinel/alias"
_ON = {
    "aliased": "the key behind the alias",
    "own": "the keys that Sentinel has tagged with the alias",
    "alias": "the alias",
    "new": "new keys that are tagged with the alias",
    "all": "all keys: these only list",
}


@dataclass(frozen=True)
class AwsAccess:
    """Operations of AWS KMS, and on what; `tags` are the only ones that may be set there."""

    actions: tuple[str, ...]
    on: Literal["aliased", "own", "alias", "new", "all"]
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(self.actions)} on {_ON[self.on]}"

    def statement(self, alias: str, region: str) -> dict[str, Any]:
        """The statement of a policy for an alias, in whichever account the policy is."""
        arn = f"arn:{_partition(region)}:kms:{region}:*"
        made: dict[str, Any] = {"Effect": "Allow", "Action": sorted(self.actions)}
        made["Resource"] = {"alias": f"{arn}:{alias}", "new": "*", "all": "*"}.get(self.on, f"{arn}:key/*")
        if condition := self._condition(alias):
            made["Condition"] = condition
        return made

    def _condition(self, alias: str) -> dict[str, Any]:
        condition: dict[str, Any] = {}
        if self.on == "aliased":
            condition["ForAnyValue:StringEquals"] = {"kms:ResourceAliases": alias}
        if self.on == "own":
            condition["StringEquals"] = {_OWN: alias}
        if self.on == "new":
            condition["StringEquals"] = {_REQUESTED: alias}
        if self.tags:
            condition["ForAllValues:StringEquals"] = {"aws:TagKeys": sorted(self.tags)}
        return condition


def _partition(region: str) -> str:
    return {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(region.rpartition("-")[0].rpartition("-")[0], "aws")


def aws_policy(asked: Iterable[tuple[AwsAccess, str, str]]) -> dict[str, Any]:
    """An identity policy for what is asked for, each with the alias and the region that it is about."""
    statements: list[dict[str, Any]] = []
    for access, alias, region in asked:
        made = access.statement(alias, region)
        same = next((one for one in statements if _apart(one) == _apart(made)), None)
        if same is None:
            statements.append(made)
        else:
            same["Action"] = sorted({*same["Action"], *made["Action"]})
    return {"Version": "2012-10-17", "Statement": statements}


def _apart(statement: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in statement.items() if key != "Action"}
