"""Signing keys behind an alias: replaced by a new one with the same rights, the old one disabled only after a while."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.actions import RefusedError
from engine.actions._kubernetes import NoAnswerError
from engine.edge.kms import KmsClient, refusal
from tests.actions.work import ACTIONS, Work
from tests.kms.conftest import Kms
from tests.kms_server import REGION

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:Sign", "Resource": "*"},
    ],
}
TAGS = [{"TagKey": "team", "TagValue": "security"}]


class Recording:
    """The client, which keeps what it was asked, and gives no answer to one of its operations before or after it."""

    def __init__(self, client: KmsClient, dies_at: str = "", *, after: bool = False) -> None:
        self.alias = client.alias
        self.asked: list[str] = []
        self._client, self._dies_at, self._after = client, dies_at, after

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        self.asked.append(operation)
        if operation == self._dies_at and not self._after:
            raise NoAnswerError("cut off")
        answer = await self._client.call(operation, **parameters)
        if operation == self._dies_at:
            raise NoAnswerError("cut off")
        return answer


async def refused(work: Work) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        await work.plan()
    return caught.value.reason, caught.value.message


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("ECC_NIST_P256", "SIGN_VERIFY"),
        ("RSA_2048", "SIGN_VERIFY"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
    ],
)
async def test_a_new_key_of_the_same_kind_policy_and_tags_stands_behind_the_alias(
    kms: Kms, spec: str, usage: str
) -> None:
    old = kms.key(spec, usage, Policy=json.dumps(POLICY), Tags=TAGS, Description="bridge")
    _, result, check = await kms.rotate().through()
    new = kms.at()
    assert (result.status, check.state) == ("done", "yes")
    assert result.detail == {"key_id": new["KeyId"], "previous_key_id": old, "alias": kms.alias}
    assert new["KeyId"] != old
    assert (new["KeySpec"], new["KeyUsage"], new["Description"], new["KeyState"]) == (spec, usage, "bridge", "Enabled")
    assert json.loads(kms.admin.get_key_policy(KeyId=new["KeyId"], PolicyName="default")["Policy"]) == POLICY
    own = {"aureus-sentinel/alias": kms.alias, "aureus-sentinel/command": "command-1", "aureus-sentinel/replaces": old}
    assert kms.tags(new["KeyId"]) == {"team": "security", **own}
    assert kms.at(old)["KeyState"] == "Enabled"
    assert kms.tags(old)["aureus-sentinel/replaced-by"] == new["KeyId"]


async def test_what_was_signed_before_can_still_be_verified_and_new_signatures_are_the_new_keys(kms: Kms) -> None:
    old = kms.key()
    sign = {"Message": b"order 1", "SigningAlgorithm": "ECDSA_SHA_256"}
    before = kms.admin.sign(KeyId=kms.alias, **sign)["Signature"]
    await kms.rotate().through()
    after = kms.admin.sign(KeyId=kms.alias, **sign)["Signature"]
    assert kms.admin.verify(KeyId=old, Signature=before, **sign)["SignatureValid"]
    assert kms.admin.verify(KeyId=kms.alias, Signature=after, **sign)["SignatureValid"]


async def test_a_second_rotation_takes_over_none_of_what_sentinel_left_on_the_first(kms: Kms) -> None:
    kms.key(Tags=TAGS)
    await kms.rotate().through()
    first = kms.at()["KeyId"]
    _, result, check = await kms.rotate("command-2").through()
    tags = kms.tags(result.detail["key_id"])
    assert check.state == "yes"
    assert (tags["team"], tags["aureus-sentinel/command"], tags["aureus-sentinel/replaces"]) == (
        "security",
        "command-2",
        first,
    )
    assert "aureus-sentinel/replaced-by" not in tags


async def test_the_same_command_again_makes_no_second_key(kms: Kms) -> None:
    kms.key()
    work = kms.rotate()
    plan = await work.plan()
    first = await work.run(plan)
    keys = kms.keys()
    again = await work.run(plan)
    assert (again.status, again.reason, again.detail) == ("done", "done_before", first.detail)
    assert kms.keys() == keys


@pytest.mark.parametrize(
    ("operation", "after", "made", "moved"),
    [
        ("CreateKey", False, 0, False),
        ("CreateKey", True, 1, False),
        ("TagResource", False, 1, False),
        ("TagResource", True, 1, False),
        ("UpdateAlias", False, 1, False),
        ("UpdateAlias", True, 1, True),
    ],
)
async def test_cut_off_anywhere_the_check_tells_how_far_it_was_and_the_same_command_goes_on_with_its_own_key(
    kms: Kms, operation: str, after: bool, made: int, moved: bool
) -> None:
    old = kms.key()
    before = kms.keys()
    kms.use(Recording(kms.client, operation, after=after))
    cut_off = kms.rotate()
    plan = await cut_off.plan()
    assert (await cut_off.run(plan)).status == "unknown"
    assert (len(kms.keys() - before), kms.at()["KeyId"] != old) == (made, moved)
    kms.use(kms.client)
    work = kms.rotate()
    check = await work.verify(plan)
    assert check.state == ("yes" if moved else "no")
    assert ("the new key is" in check.why) is (made == 1 and not moved)
    assert (await work.run(plan)).status == "done"
    assert (len(kms.keys() - before), (await work.verify(plan)).state) == (1, "yes")


async def test_a_key_that_another_key_has_replaced_since_the_plan_is_left_alone(kms: Kms) -> None:
    kms.key()
    work = kms.rotate()
    plan = await work.plan()
    other = kms.admin.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    kms.admin.update_alias(AliasName=kms.alias, TargetKeyId=other)
    keys = kms.keys()
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert (caught.value.reason, kms.keys(), kms.at()["KeyId"]) == ("alias_moved", keys, other)


async def test_a_policy_that_was_changed_since_the_plan_is_not_copied(kms: Kms) -> None:
    old = kms.key()
    work = kms.rotate()
    plan = await work.plan()
    kms.admin.put_key_policy(KeyId=old, PolicyName="default", Policy=json.dumps(POLICY))
    with pytest.raises(RefusedError) as caught:
        await work.run(plan)
    assert (caught.value.reason, kms.at()["KeyId"]) == ("changed_meanwhile", old)


async def test_a_pause_leaves_the_alias_where_it_is_and_names_the_new_key(kms: Kms) -> None:
    old = kms.key()
    work = kms.rotate()
    plan = await work.plan()

    async def paused() -> bool:
        return True

    object.__setattr__(work.env, "paused", paused)
    result = await work.run(plan)
    assert (result.status, result.reason, kms.at()["KeyId"]) == ("failed", "paused", old)
    assert kms.tags(result.detail["key_id"])["aureus-sentinel/command"] == "command-1"


def _symmetric(kms: Kms) -> None:
    kms.key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")


def _replicated(kms: Kms) -> None:
    kms.key(MultiRegion=True)


def _imported(kms: Kms) -> None:
    kms.key(Origin="EXTERNAL")


def _doomed(kms: Kms) -> None:
    kms.admin.schedule_key_deletion(KeyId=kms.key())


def _named_in_its_policy(kms: Kms) -> None:
    key = kms.key()
    policy = json.dumps(POLICY).replace('"Resource": "*"', f'"Resource": "arn:aws:kms:{REGION}:123456789012:key/{key}"')
    kms.admin.put_key_policy(KeyId=key, PolicyName="default", Policy=policy)


def _nothing(kms: Kms) -> None:
    pass


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (_symmetric, "not_a_signing_key"),
        (_replicated, "multi_region"),
        (_imported, "foreign_key_material"),
        (_doomed, "key_state"),
        (_named_in_its_policy, "policy_names_key"),
        (_nothing, "not_found"),
    ],
)
async def test_a_key_that_cannot_be_replaced_in_this_way_is_refused_by_name(
    kms: Kms, scene: Callable[[Kms], None], reason: str
) -> None:
    scene(kms)
    keys = kms.keys()
    assert (await refused(kms.rotate()))[0] == reason
    assert kms.keys() == keys


async def test_a_disabled_key_can_be_replaced_since_that_is_an_emergency(kms: Kms) -> None:
    kms.admin.disable_key(KeyId=kms.key())
    _, _, check = await kms.rotate().through()
    assert (check.state, kms.at()["KeyState"]) == ("yes", "Enabled")


async def test_a_replaced_key_is_disabled_after_the_grace_period_and_no_sooner(kms: Kms) -> None:
    old = kms.key()
    await kms.rotate().through()
    reason, message = await refused(kms.disable(old, grace_s=3600))
    assert (reason, "may be disabled from" in message, kms.at(old)["KeyState"]) == ("grace_period", True, "Enabled")
    at = (datetime.now(UTC) - timedelta(seconds=3601)).isoformat()
    kms.admin.tag_resource(KeyId=old, Tags=[{"TagKey": "aureus-sentinel/replaced-at", "TagValue": at}])
    _, result, check = await kms.disable(old, grace_s=3600).through()
    assert (result.status, check.state, kms.at(old)["KeyState"]) == ("done", "yes", "Disabled")
    assert (await kms.disable(old, grace_s=3600).plan()).changes == []
    assert kms.at()["KeyState"] == "Enabled"


async def test_a_key_that_an_alias_points_to_is_never_disabled(kms: Kms) -> None:
    old = kms.key()
    assert (await refused(kms.disable(old, grace_s=0)))[0] == "key_in_use"
    await kms.rotate().through()
    plan = await kms.disable(old, grace_s=0).plan()
    kms.admin.create_alias(AliasName=f"{kms.alias}-legacy", TargetKeyId=old)
    with pytest.raises(RefusedError, match=f"{kms.alias}-legacy points to the key {old}"):
        await kms.disable(old, grace_s=0).run(plan)
    assert kms.at(old)["KeyState"] == "Enabled"


async def test_only_what_was_replaced_behind_this_very_alias_may_be_disabled(kms: Kms, kms_url: str) -> None:
    stranger = kms.admin.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    other = Kms(kms_url)
    others = other.key()
    await other.rotate().through()
    kms.key()
    for key in (stranger, others):
        assert (await refused(kms.disable(key, grace_s=0)))[0] == "not_replaced"
    kms.admin.tag_resource(
        KeyId=stranger,
        Tags=[
            {"TagKey": f"aureus-sentinel/{name}", "TagValue": value}
            for name, value in (("alias", kms.alias), ("replaced-by", others), ("replaced-at", "yesterday"))
        ],
    )
    assert (await refused(kms.disable(stranger, grace_s=0)))[0] == "not_replaced"
    assert (await refused(kms.disable("0" * 36)))[0] == "not_found"


async def test_what_is_asked_of_kms_is_what_the_permissions_name_and_nothing_else(kms: Kms) -> None:
    recording = Recording(kms.client)
    kms.use(recording)
    old = kms.key()
    await kms.rotate().through()
    rotated, recording.asked = set(recording.asked), []
    await kms.disable(old, grace_s=0).through()
    for name, asked in (("kms.rotate_signing_key", rotated), ("kms.disable_key", set(recording.asked))):
        declared = {action for one in ACTIONS[name].permissions for action in one.actions}  # type: ignore[union-attr]
        assert {f"kms:{operation}" for operation in asked} == declared


async def test_a_kms_that_is_away_is_no_answer_and_a_check_of_it_knows_nothing(kms: Kms) -> None:
    kms.key()
    plan = await kms.rotate().plan()
    kms.use(KmsClient(kms.alias, REGION, "http://127.0.0.1:9"))
    with pytest.raises(NoAnswerError, match="DescribeKey"):
        await kms.rotate().plan()
    assert (await kms.rotate().verify(plan)).state == "unknown"


async def test_without_credentials_it_says_so(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    kms.use(KmsClient(kms.alias, REGION, kms.url))
    assert await refused(kms.rotate()) == ("unauthorized", "the executor has no AWS credentials")


@pytest.mark.parametrize(
    ("code", "status", "kind", "reason"),
    [
        ("AccessDeniedException", 400, RefusedError, "forbidden"),
        ("AccessDenied", 403, RefusedError, "forbidden"),
        ("NotFoundException", 400, RefusedError, "not_found"),
        ("KMSInvalidStateException", 400, RefusedError, "key_state"),
        ("ExpiredTokenException", 400, RefusedError, "unauthorized"),
        ("MalformedPolicyDocumentException", 400, RefusedError, "not_admitted"),
        ("LimitExceededException", 400, RefusedError, "not_admitted"),
        ("ThrottlingException", 400, NoAnswerError, ""),
        ("KMSInternalException", 500, NoAnswerError, ""),
    ],
)
def test_the_errors_of_kms_are_understood(code: str, status: int, kind: type[Exception], reason: str) -> None:
    response = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = refusal("CreateKey", "alias/a", response)
    assert isinstance(error, kind)
    assert getattr(error, "reason", "") == reason


def test_a_lacking_permission_is_named() -> None:
    response = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    said = str(refusal("GetKeyPolicy", "1234", response))
    assert said == "the executor's credentials lack the permission: kms:GetKeyPolicy for 1234"
