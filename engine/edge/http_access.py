"""Clients for the servers that Sentinel reads from: TLS, and credentials by value, environment or file."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx
from pydantic import SecretStr

from engine.edge.settings_sources import HttpAccess, TlsClient


class CredentialsError(Exception):
    """A credential cannot be had now; says which setting names it."""


def open_client(access: HttpAccess) -> httpx.AsyncClient:
    """A client for one server or job; who asks limits the time. Raises `ValueError` when a TLS file cannot be used."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(
        verify=tls_context(access.tls), follow_redirects=True, limits=limits, timeout=httpx.Timeout(None)
    )


def request_headers(access: HttpAccess, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The headers that every request carries. Files are read each time, so a rotated secret needs no restart."""
    headers = {name: value.get_secret_value() for name, value in access.headers.items()}
    basic = access.basic_auth
    if basic.username:
        password = read_secret(
            "basic_auth.password", (basic.password, basic.password_env, basic.password_file), environ
        )
        pair = base64.b64encode(f"{basic.username}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    given = (access.bearer_token, access.bearer_token_env, access.bearer_token_file)
    if token := read_secret("bearer_token", given, environ):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def read_secret(name: str, given: tuple[SecretStr, str, Path | None], environ: Mapping[str, str]) -> str:
    """A secret by its value, the variable or the file that holds it; "" if none. Raises `CredentialsError`."""
    value, variable, file = given
    if variable:
        if variable not in environ:
            raise CredentialsError(f"{name}_env names {variable}, which is not set in the environment")
        return environ[variable]
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialsError(f"{name}_file cannot be read: {error}") from error
    return value.get_secret_value()


def tls_context(settings: TlsClient) -> ssl.SSLContext:
    """The TLS context that the settings describe; raises `ValueError` when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:
        raise ValueError(f"TLS files cannot be used ({settings.ca_file}, {settings.cert_file}): {error}") from error
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
