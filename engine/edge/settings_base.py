"""What every part of the settings is made of: the base class of sections, and types that check themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

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


class Endpoint(Section):
    """An HTTP service, and how Sentinel makes itself known there."""

    url: HttpUrl = Field(min_length=1, description="Address.")
    username: str = Field(default="", description="User of HTTP basic authentication.")
    password: SecretStr = Field(default=SecretStr(""), description="Its password.")
    token: SecretStr = Field(default=SecretStr(""), description="Bearer token, instead of a user.")
    headers: dict[str, SecretStr] = Field(default={}, description="Further headers, such as `X-Scope-OrgID`.")
    ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust; empty: the system's.")
    cert_file: Path | None = Field(default=None, description="PEM client certificate, for mutual TLS.")
    key_file: Path | None = Field(default=None, description="PEM key of the client certificate.")
    timeout_s: PositiveSeconds = Field(default=10, description="Longest time that a request may take.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.username and self.token.get_secret_value():
            raise ValueError("give username or token, not both")
        if re.search(r"://[^/]*@", self.url):
            raise ValueError("write the user into username and password, not into the url")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are only useful together")
        return self
