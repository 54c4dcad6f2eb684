"""`kms.disable_key`: disable a key that `kms.rotate_signing_key` has replaced, after a grace period.

A disabled key verifies nothing any more, so what it has signed must have run out. It can be enabled again
(`aws kms enable-key`); nothing is deleted. The period is counted by AWS's clock, from when the alias was moved.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from msgspec import Meta, Struct

from engine.actions import Action, AwsAccess, Check, Environment, Plan, RefusedError, Result
from engine.actions._kms import (
    ALIAS_TAG,
    REPLACED_AT_TAG,
    REPLACED_BY_TAG,
    Key,
    KeyId,
    KmsApi,
    aliases_of,
    answered_at,
    api_of,
    tags_of,
)
from engine.actions._kubernetes import NoAnswerError
from engine.core.messages import Target


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """The key, and how many seconds must have gone by since it was replaced."""

    key_id: KeyId
    grace_s: Annotated[float, Meta(ge=0, le=31_536_000)] = 86_400.0


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The key that would be disabled; nothing if it is already. Raises `RefusedError`."""
    api = api_of(env, target)
    key, change = await _look(api, params)
    if key.state == "Disabled":
        return Plan(f"nothing to do: the key {key.id} is disabled", [])
    return Plan(f"disable the key {key.id}, which {change['replaced_by']} replaced behind {api.alias}", [change])


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Disable it, if everything still permits it."""
    api = api_of(env, target)
    key, change = await _look(api, params)
    if [change] != plan.changes:
        raise RefusedError("changed_meanwhile", f"what is known of the key {key.id} changed since the plan")
    detail = {"key_id": key.id, "alias": api.alias}
    if key.state == "Disabled":
        return Result("done", "done_before", detail)
    try:
        await api.call("DisableKey", KeyId=key.id)
    except NoAnswerError as error:
        return Result("unknown", "no_answer", detail | {"error": env.redact(str(error))})
    return Result("done", "disabled", detail)


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether the key is disabled."""
    if plan is None:
        return Check("unknown", "there is no plan: nothing was begun")
    try:
        key = Key.of(await api_of(env, target).call("DescribeKey", KeyId=params.key_id))
    except (RefusedError, NoAnswerError) as error:
        return Check("unknown", env.redact(str(error)))
    return Check("yes" if key.state == "Disabled" else "no", f"the key {key.id} is {key.state}")


async def _look(api: KmsApi, params: Params) -> tuple[Key, dict[str, Any]]:
    """The key and what is known of its replacement. Raises `RefusedError` for what stands against disabling it."""
    answer = await api.call("DescribeKey", KeyId=params.key_id)
    key = Key.of(answer)
    if pointing := await aliases_of(api, key.id):
        raise RefusedError("key_in_use", f"{', '.join(sorted(pointing))} points to the key {key.id}")
    tags = await tags_of(api, key.id)
    if tags.get(ALIAS_TAG) != api.alias or not {REPLACED_AT_TAG, REPLACED_BY_TAG} <= tags.keys():
        raise RefusedError(
            "not_replaced", f"{key.id} is no key that kms.rotate_signing_key replaced behind {api.alias}"
        )
    if key.state not in ("Enabled", "Disabled"):
        raise RefusedError("key_state", f"the key {key.id} is {key.state}")
    ends = _time(tags[REPLACED_AT_TAG], key.id) + timedelta(seconds=params.grace_s)
    if answered_at(answer) < ends:
        raise RefusedError(
            "grace_period", f"the key {key.id} was replaced lately; it may be disabled from {ends:%F %TZ}"
        )
    replaced = {"replaced_by": tags[REPLACED_BY_TAG], "replaced_at": tags[REPLACED_AT_TAG]}
    return key, {"key_id": key.id, "alias": api.alias, **replaced}


def _time(text: str, key_id: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise RefusedError("not_replaced", f"the tag {REPLACED_AT_TAG} of the key {key_id} is no time: {text!r}")
    return found


ACTION = Action(
    name="kms.disable_key",
    summary="Disable a signing key that was replaced, after a grace period.",
    target_kind="kms",
    params=Params,
    destructive=True,
    permissions=(
        AwsAccess(("kms:DescribeKey", "kms:ListResourceTags", "kms:DisableKey"), "own"),
        AwsAccess(("kms:ListAliases",), "all"),
    ),
    plan=plan,
    run=run,
    verify=verify,
)
