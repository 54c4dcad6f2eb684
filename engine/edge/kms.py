"""The client of AWS KMS, by boto3: credentials from where AWS's own tools have them, each request sent once."""

from __future__ import annotations

import asyncio
from typing import Any

from engine.actions import RefusedError
from engine.actions._kubernetes import NoAnswerError

_TIMEOUT_S = 10
_NOT_KNOWN = (
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "InvalidSignatureException",
)
_REASONS = {
    "AccessDeniedException": "forbidden",
    "NotFoundException": "not_found",
    "KMSInvalidStateException": "key_state",
    **dict.fromkeys(_NOT_KNOWN, "unauthorized"),
}


class KmsConfigError(ValueError):
    """KMS cannot be used as configured; the message says what to do."""


class KmsClient:
    """KMS for one alias. boto3 is not asynchronous, so it works in a thread; see `engine.actions._kms`.

    Credentials are found as AWS's tools find them: environment, profile, role of the pod or machine. `endpoint_url`
    "" is the public one of the region. Raises `KmsConfigError`.
    """

    def __init__(self, alias: str, region: str, endpoint_url: str) -> None:
        try:
            import boto3  # optional, and half a second to import: only where it is needed
            from botocore.config import Config
        except ImportError as error:
            raise KmsConfigError("executor.kms needs AWS's client: install aureus-sentinel[aws]") from error
        once = Config(
            retries={"total_max_attempts": 1},  # whoever sends a request decides about another attempt
            connect_timeout=_TIMEOUT_S,
            read_timeout=_TIMEOUT_S,
        )
        self._alias = alias
        self._client = boto3.Session(region_name=region).client("kms", endpoint_url=endpoint_url or None, config=once)

    @property
    def alias(self) -> str:
        """The alias whose key may be changed."""
        return self._alias

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer to an operation. Raises `RefusedError`, `NoAnswerError`."""
        return await asyncio.to_thread(self._call, operation, parameters)

    def _call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            answer: dict[str, Any] = getattr(self._client, xform_name(operation))(**parameters)
        except ClientError as error:
            raise refusal(operation, str(parameters.get("KeyId", self._alias)), error.response) from error
        except NoCredentialsError as error:
            raise RefusedError("unauthorized", "the executor has no AWS credentials") from error
        except BotoCoreError as error:
            raise NoAnswerError(f"KMS gave no answer to {operation}: {error}") from error
        return answer


def refusal(operation: str, key: str, response: Any) -> Exception:
    """What an answer that is an error means for whoever sent the request.

    Source: the common errors of the AWS KMS API reference.
    """
    code, said = response["Error"]["Code"], response["Error"].get("Message", "")
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    if status >= 500 or code == "ThrottlingException":
        return NoAnswerError(f"KMS answered {operation} with {code}: {said}")
    reason = _REASONS.get(code, "forbidden" if status == 403 else "not_admitted")
    if reason == "forbidden":
        return RefusedError(reason, f"the executor's credentials lack the permission: kms:{operation} for {key}")
    return RefusedError(reason, f"kms:{operation} for {key}: {code}: {said}")
