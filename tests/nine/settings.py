"""Sentinel's settings in this world: one file for each of its processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nine import container, gateway, kms, shop
from tests.nine.shortened import FACTOR
from tests.nine.signatures import ALIAS
from tests.nine.town import NAMESPACE

Object = dict[str, Any]


@dataclass
class Places:
    """Where the parts are."""

    kafka_url: str
    loki_url: str
    database_url: str
    shop_url: str
    kms_url: str
    docker_url: str
    keys: Path
    rules: Path
    compose: Path
    executor_kubeconfig: Path
    responder_kubeconfig: Path
    ports: dict[str, int]
    prometheus_url: str = ""


def settings_of(places: Places, address: str, folder: Path, notify: Object) -> dict[str, Object]:
    """The settings by process. Only the executor's hold credentials that change anything, and only public keys."""
    made = {"take": _take(places), "decide": _decide(places) | {"notify": notify}, "act": _act(places, address)}
    return {name: _common(places, name, folder) | own for name, own in made.items()}


def _common(places: Places, name: str, folder: Path) -> Object:
    return {
        "state_dir": str(folder / f"state-{name}"),
        "instance": name,
        "kafka": {"url": f"kafka://{places.kafka_url}", "fetch_wait_ms": 20, "session_timeout_s": 6},
        "database": {"url": places.database_url},
        "http": {"listen": f"127.0.0.1:{places.ports[name]}"},
        "rules": {"paths": [str(places.rules)], "watch_s": 0},
    }


def _take(places: Places) -> Object:
    return {
        "connectors": {
            "remote_write": {"lateness_ms": 1500, "idle_after_ms": 5000, "settle_ms": 0},
            "loki": [{"name": "main", "url": places.loki_url, "lateness_ms": 1000}],
        }
    }


def _decide(places: Places) -> Object:
    return {
        "responder": {
            **_modes(),
            "private_key_file": str(places.keys / "signing.pem"),
            "query_url": places.prometheus_url,
            "loki": {"url": places.loki_url},
            "databases": {name: shop.url_as(places.shop_url, shop.READER, name) for name in shop.DATABASES},
            "namespaces": [NAMESPACE],
            "kubernetes": {"kubeconfig": str(places.responder_kubeconfig)},
        }
    }


def _act(places: Places, address: str) -> Object:
    return {
        "responder": _modes(),
        "executor": {
            "public_keys": [str(places.keys / "signing.pub.pem")],
            "namespaces": [NAMESPACE],
            "kubernetes": {"kubeconfig": str(places.executor_kubeconfig)},
            "databases": {name: shop.url_as(places.shop_url, shop.EXECUTOR, name) for name in shop.DATABASES},
            "hosts": {"openclaw": {"url": f"http://{address}/openclaw", "token": gateway.TOKEN}},
            "compose": {container.PROJECT: {"files": [str(places.compose)], "docker_host": places.docker_url}},
            "kms": {"bridge": {"alias": ALIAS, "region": kms.REGION, "endpoint_url": places.kms_url}},
            "allow_actions": [*_AUTOMATIC, *_ASKED],
        },
    }


_AUTOMATIC = (
    "http.request",
    "kubernetes.rollout_restart",
    "kubernetes.delete_pod",
    "postgres.terminate_idle",
    "compose.restart",
    "kms.rotate_signing_key",
    "kms.disable_key",
)
_ASKED = ("kubernetes.rollout_undo", "kubernetes.scale", "kubernetes.set_env", "kubernetes.set_resources")


def _modes() -> Object:
    """What runs by itself is named; everything else asks a person."""
    overrides = [{"action": action, "namespace": NAMESPACE, "mode": "auto"} for action in _AUTOMATIC]
    # The alerts follow each other as none do elsewhere: what is a minute there is three seconds here.
    return {"mode": "approve", "overrides": overrides, "storm_window_s": 60 / FACTOR}
