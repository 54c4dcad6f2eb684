"""What the AWS KMS actions share: the client, a key as KMS describes it, its tags, and what Sentinel leaves in them.

    old key   aureus-sentinel/alias, /replaced-by, /replaced-at     given to it right before its alias moves
    new key   aureus-sentinel/alias, /command, /replaces            given to it as it is made

Source: the AWS KMS API reference and developer guide ("Rotate keys manually").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from msgspec import Meta, Struct

from engine.actions._refused import RefusedError
from engine.core.messages import Target

if TYPE_CHECKING:
    from engine.actions import Environment

OWN_TAGS = "aureus-sentinel/"
ALIAS_TAG = f"{OWN_TAGS}alias"
COMMAND_TAG = f"{OWN_TAGS}command"
REPLACES_TAG = f"{OWN_TAGS}replaces"
REPLACED_BY_TAG = f"{OWN_TAGS}replaced-by"
REPLACED_AT_TAG = f"{OWN_TAGS}replaced-at"
SIGNING_USAGES = ("SIGN_VERIFY", "GENERATE_VERIFY_MAC")

KeyId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{8,64}$")]
"""The id of a key, e.g. `1234abcd-12ab-34cd-56ef-1234567890ab`; never an alias."""


class KmsApi(Protocol):
    """A client of AWS KMS for the key behind one alias."""

    @property
    def alias(self) -> str:
        """E.g. `alias/bridge-signing`."""
        ...

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer to an operation, e.g. `DescribeKey`; sent once.

        Raises `RefusedError` when KMS says no, and `NoAnswerError` when nobody can tell whether it was carried out.
        """
        ...


class Key(Struct, frozen=True):
    """A key, as `DescribeKey` has it."""

    id: str
    spec: str
    usage: str
    state: str
    manager: str
    origin: str
    multi_region: bool
    description: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Key:
        """From an answer that holds `KeyMetadata`."""
        found = answer["KeyMetadata"]
        return cls(
            id=found["KeyId"],
            spec=found["KeySpec"],
            usage=found["KeyUsage"],
            state=found["KeyState"],
            manager=found["KeyManager"],
            origin=found.get("Origin", ""),
            multi_region=found.get("MultiRegion", False),
            description=found.get("Description", ""),
        )


def api_of(env: Environment, target: Target) -> KmsApi:
    """The client for a target. Raises `RefusedError` where none is configured."""
    if target.name not in env.kms:
        raise RefusedError("bad_name", f"there is no {target.name!r} in executor.kms")
    return env.kms[target.name]


async def tags_of(api: KmsApi, key_id: str) -> dict[str, str]:
    """All tags of a key."""
    return {
        tag["TagKey"]: tag["TagValue"]
        async for page in pages(api, "ListResourceTags", KeyId=key_id)
        for tag in page["Tags"]
    }


async def aliases_of(api: KmsApi, key_id: str) -> list[str]:
    """The names of all aliases that point to a key."""
    return [
        one["AliasName"] async for page in pages(api, "ListAliases", KeyId=key_id) for one in page.get("Aliases", ())
    ]


async def pages(api: KmsApi, operation: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
    """Every page of an operation that gives its answer in parts."""
    page = await api.call(operation, **parameters)
    yield page
    while page.get("Truncated"):
        page = await api.call(operation, **parameters, Marker=page["NextMarker"])
        yield page


async def made_by(api: KmsApi, command: str) -> str | None:
    """The id of the key that a command has made for the alias, if there is one.

    A key whose tags may not be read is not ours.
    """
    async for page in pages(api, "ListKeys"):
        for one in page["Keys"]:
            try:
                tags = await tags_of(api, one["KeyId"])
            except RefusedError:
                continue
            if (tags.get(COMMAND_TAG), tags.get(ALIAS_TAG)) == (command, api.alias):
                return str(one["KeyId"])
    return None


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the API takes them."""
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]


def answered_at(answer: Mapping[str, Any]) -> datetime:
    """When KMS gave an answer, by its own clock: no clock of ours counts a grace period."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).astimezone(UTC)
