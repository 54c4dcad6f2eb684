"""One request to another system: how Sentinel makes itself known, whom it trusts, and what an answer means."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from engine.edge.clock import SystemClock
from engine.edge.settings import Endpoint
from engine.edge.sink_http import Answer, open_receiver
from engine.edge.telemetry import Telemetry
from tests.parts import free_ports


def certificate(folder: Path, name: str, issuer: tuple[x509.Certificate, Any] | None) -> tuple[x509.Certificate, Any]:
    """A certificate and its key, as PEM files too; signed by itself without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(secret)
    return made, key


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    authority = certificate(tmp_path, "authority", None)
    for name in ("server", "client"):
        certificate(tmp_path, name, authority)
    return tmp_path


@asynccontextmanager
async def server(status: int, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def take(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="said\nso")

    app = web.Application()
    app.router.add_post("/", take)
    test_server = TestServer(app, scheme="https" if tls else "http")
    await test_server.start_server(ssl=tls)
    try:
        yield str(test_server.make_url("/"))
    finally:
        await test_server.close()


async def post(url: str, **settings: Any) -> Answer:
    endpoint = Endpoint.model_validate({"url": url, **settings})
    async with open_receiver("sink", url, endpoint, (Telemetry(process_metrics=False), SystemClock())) as receiver:
        return await receiver.post(b"body", {})


@pytest.mark.parametrize(
    ("status", "headers", "answer"),
    [
        (200, {}, Answer("taken", "200", 0, "HTTP 200: said so")),
        (400, {}, Answer("refused", "400", 0, "HTTP 400: said so")),
        (503, {"Retry-After": "7"}, Answer("later", "503", 7_000, "HTTP 503: said so")),
        (307, {"Location": "http://elsewhere.example/"}, Answer("refused", "307", 0, "HTTP 307: said so")),
    ],
)
async def test_an_answer(status: int, headers: dict[str, str], answer: Answer) -> None:
    async with server(status, headers) as url:
        assert await post(url) == answer


async def test_a_service_that_is_not_there_may_be_later() -> None:
    (port,) = free_ports(1)
    answer = await post(f"http://127.0.0.1:{port}/")
    assert (answer.verdict, answer.code) == ("later", "unreachable")


async def test_mutual_tls_with_an_authority_of_ones_own(pki: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "authority.pem"))
    tls.load_cert_chain(pki / "server.pem", pki / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    own = {"cert_file": pki / "client.pem", "key_file": pki / "client.key"}
    async with server(200, {}, tls) as url:
        assert (await post(url, ca_file=pki / "authority.pem", **own)).verdict == "taken"
        assert (await post(url, **own)).code == "unreachable"  # an authority that nobody knows
        assert (await post(url, ca_file=pki / "authority.pem")).code == "unreachable"  # it does not know us


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"url": "http://me:secret@host/"}, "not into the url"),
        ({"url": "http://host/", "username": "me", "token": "t"}, "not both"),
        ({"url": "http://host/", "cert_file": "a.pem"}, "only useful together"),
        ({"url": "ftp://host/"}, "must be a URL"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Endpoint.model_validate(settings)
