"""`kms.rotate_signing_key`: a new key for signing or MACs behind an alias of AWS KMS.

KMS does not rotate asymmetric and HMAC keys by itself. So a new key is made with the spec, usage, policy, description
and tags of the present one, and the alias is moved to it. The old key stays enabled, as what it has signed must still
be verified; `kms.disable_key` disables it after a grace period. No key is ever scheduled for deletion.

    plan     alias -> key, its policy and tags, read
    run      still that key and policy? -> made before by this command? -> make -> tag the old -> still that key?
             -> move the alias
    verify   does the alias point to the key with this command's id?

Whoever may use the new key is said by the copied policy. Grants are not copied, and a service that names the key by
its id, not by the alias, has to be told.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from engine.actions import Action, AwsAccess, Check, Environment, Plan, RefusedError, Result
from engine.actions._kms import (
    ALIAS_TAG,
    COMMAND_TAG,
    OWN_TAGS,
    REPLACED_AT_TAG,
    REPLACED_BY_TAG,
    REPLACES_TAG,
    SIGNING_USAGES,
    Key,
    KmsApi,
    answered_at,
    api_of,
    made_by,
    tag_list,
    tags_of,
)
from engine.actions._kubernetes import NoAnswerError
from engine.core.messages import Target

_ATTEMPTS = 5
_PAUSE_S = 1.0


class Params(Struct, frozen=True, forbid_unknown_fields=True):
    """None: the target names the alias, and the new key is made as the present one."""


class _Present(Struct, frozen=True):
    """The key behind the alias, and what its successor takes over."""

    key: Key
    policy: str
    tags: dict[str, str]

    @property
    def digest(self) -> str:
        taken_over = [self.key.spec, self.key.usage, self.key.description, self.policy, self.tags]
        return hashlib.sha256(msgspec.json.encode(taken_over, order="deterministic")).hexdigest()


async def plan(env: Environment, target: Target, params: Params) -> Plan:
    """The key that would be replaced, and what its successor takes over. Raises `RefusedError`."""
    api = api_of(env, target)
    present = await _present(api)
    change = {
        "alias": api.alias,
        "previous_key_id": present.key.id,
        "key_spec": present.key.spec,
        "key_usage": present.key.usage,
        "tags": sorted(present.tags),
        "taken_over_sha256": present.digest,
    }
    return Plan(f"replace the {present.key.spec} key {present.key.id} behind {api.alias}", [change])


async def run(env: Environment, target: Target, params: Params, plan: Plan) -> Result:
    """Make the new key, and move the alias to it. Raises `RefusedError` when it is not as planned."""
    api, (change,) = api_of(env, target), plan.changes
    present = await _present(api)
    own = await made_by(api, env.command)
    if own is not None and present.key.id == own:
        return Result("done", "done_before", _detail(api, own, change["previous_key_id"]))
    if present.key.id != change["previous_key_id"]:
        raise RefusedError("alias_moved", f"{api.alias} points to {present.key.id} since the plan was made")
    if present.digest != change["taken_over_sha256"]:
        raise RefusedError("changed_meanwhile", f"the policy or the tags of {present.key.id} changed since the plan")
    if own is None:
        try:
            own = await _make(api, env.command, present)
        except NoAnswerError as error:
            return Result("unknown", "no_answer", {"error": env.redact(str(error))})
    return await _put_in_place(env, api, own, present.key.id)


async def _put_in_place(env: Environment, api: KmsApi, key_id: str, previous_id: str) -> Result:
    """Move the alias to a new key. From here on there is one more key, so whatever fails is no refusal."""
    detail = _detail(api, key_id, previous_id)
    try:
        if await env.paused():
            return Result("failed", "paused", detail)
        now = await api.call("DescribeKey", KeyId=api.alias)
        if Key.of(now).id != previous_id:
            return Result("failed", "alias_moved", detail)
        at = answered_at(now).isoformat()
        replaced = {ALIAS_TAG: api.alias, REPLACED_BY_TAG: key_id, REPLACED_AT_TAG: at}
        await api.call("TagResource", KeyId=previous_id, Tags=tag_list(replaced))
        await _move_alias(env, api, key_id)
    except RefusedError as error:
        return Result("failed", error.reason, detail | {"error": env.redact(error.message)})
    except NoAnswerError as error:
        return Result("unknown", "no_answer", detail | {"error": env.redact(str(error))})
    return Result("done", "rotated", detail)


async def _move_alias(env: Environment, api: KmsApi, key_id: str) -> None:
    """KMS may need a moment before a new key is found everywhere."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await api.call("UpdateAlias", AliasName=api.alias, TargetKeyId=key_id)
        except RefusedError as error:
            if error.reason != "not_found" or attempt == _ATTEMPTS:
                raise
            await env.sleep(_PAUSE_S)
        else:
            return


async def _present(api: KmsApi) -> _Present:
    """The key behind the alias. Raises `RefusedError` for one that cannot be replaced in this way."""
    key = Key.of(await api.call("DescribeKey", KeyId=api.alias))
    if key.manager != "CUSTOMER":
        raise RefusedError("aws_managed", f"{api.alias} is a key that AWS itself manages and rotates")
    if key.usage not in SIGNING_USAGES:
        raise RefusedError(
            "not_a_signing_key",
            f"{api.alias} is for {key.usage}: what it has encrypted needs this very key; let KMS rotate its material",
        )
    if key.origin != "AWS_KMS":
        raise RefusedError("foreign_key_material", f"the material of {api.alias} is from {key.origin}, not from KMS")
    if key.multi_region:
        raise RefusedError("multi_region", f"{api.alias} has replicas in other regions, which would keep the old key")
    if key.state not in ("Enabled", "Disabled"):
        raise RefusedError("key_state", f"the key {key.id} behind {api.alias} is {key.state}")
    policy = (await api.call("GetKeyPolicy", KeyId=key.id, PolicyName="default"))["Policy"]
    if key.id in policy:
        raise RefusedError(
            "policy_names_key", f"the policy of {key.id} names this key: its copy would be about the old"
        )
    tags = {name: value for name, value in (await tags_of(api, key.id)).items() if not _is_reserved(name)}
    return _Present(key, policy, tags)


def _is_reserved(tag: str) -> bool:
    """Tags that are about the key itself: Sentinel's, and those that only AWS gives."""
    return tag.startswith(OWN_TAGS) or tag.lower().startswith("aws:")


async def _make(api: KmsApi, command: str, present: _Present) -> str:
    own = {ALIAS_TAG: api.alias, COMMAND_TAG: command, REPLACES_TAG: present.key.id}
    made = await api.call(
        "CreateKey",
        Policy=present.policy,
        Description=present.key.description,
        KeySpec=present.key.spec,
        KeyUsage=present.key.usage,
        Tags=tag_list({**present.tags, **own}),
    )
    return Key.of(made).id


def _detail(api: KmsApi, key_id: str, previous_id: str) -> dict[str, Any]:
    return {"key_id": key_id, "previous_key_id": previous_id, "alias": api.alias}


async def verify(env: Environment, target: Target, params: Params, plan: Plan | None) -> Check:
    """Whether the alias points to the key that this command has made, and that key can sign."""
    if plan is None:
        return Check("unknown", "there is no plan: nothing was begun")
    api, previous_id = api_of(env, target), plan.changes[0]["previous_key_id"]
    try:
        key = Key.of(await api.call("DescribeKey", KeyId=api.alias))
        if key.id != previous_id and (await tags_of(api, key.id)).get(COMMAND_TAG) == env.command:
            return Check("yes" if key.state == "Enabled" else "no", f"{api.alias} points to {key.id}, {key.state}")
        left = await made_by(api, env.command)
    except (RefusedError, NoAnswerError) as error:
        return Check("unknown", env.redact(str(error)))
    made = f"the new key is {left}" if left else "no new key was made"
    return Check("no", f"{api.alias} points to {key.id}; {made}")


ACTION = Action(
    name="kms.rotate_signing_key",
    summary="Put a new signing or MAC key behind an alias of AWS KMS.",
    target_kind="kms",
    params=Params,
    destructive=True,
    permissions=(
        AwsAccess(("kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListResourceTags", "kms:UpdateAlias"), "aliased"),
        AwsAccess(("kms:TagResource",), "aliased", tags=(ALIAS_TAG, REPLACED_BY_TAG, REPLACED_AT_TAG)),
        AwsAccess(("kms:UpdateAlias",), "alias"),
        AwsAccess(("kms:DescribeKey", "kms:ListResourceTags", "kms:UpdateAlias"), "own"),
        AwsAccess(("kms:CreateKey", "kms:TagResource"), "new"),
        AwsAccess(("kms:ListKeys",), "all"),
    ),
    plan=plan,
    run=run,
    verify=verify,
)
