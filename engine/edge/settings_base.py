"""What every part of the settings is made of: the base class of sections, and types that check themselves."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from engine.core.masking import PERCENT_ENCODE

Positive = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[int, Field(ge=0)]


def _http_url(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("must be a URL that starts with http:// or https://")
    return value


def _postgres_url(value: str) -> str:
    if value and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a URL that starts with postgresql://")
    user, colon, password = value.partition("://")[2].rpartition("@")[0].partition(":")
    if re.search(r"\s", value) or (colon and re.search(r"[/?#]", user + password)):
        raise ValueError(f"cannot be read: {PERCENT_ENCODE}")
    return value


def _listen_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:9560 (port 0 takes a free one)")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]


class Section(BaseModel):
    """A part of the settings: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
