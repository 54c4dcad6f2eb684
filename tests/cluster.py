"""A real Kubernetes API for tests: etcd, kube-apiserver and kube-controller-manager, and a stand-in for kubelets.

There are no nodes. What a kubelet would report about a pod is written to its status by a thread here, as a kubelet
would do: every pod becomes ready, unless its image is `broken` or the test has said otherwise.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.parts import Program, free_ports, require

_ADMIN_TOKEN = secrets.token_hex(16)
_KUBELET_POLL_S = 0.05
_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "disruption-controller",
    "serviceaccount-controller",
    "garbage-collector-controller",
)
Object = dict[str, Any]


class Cluster:
    """One cluster: `api` is an administrator's HTTP client, to set scenes with and to look at what became of them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.url = f"https://127.0.0.1:{port}"
        self.certificate = folder / "certificates" / "apiserver.crt"
        self.unready: set[str] = set()  # names of pods that no kubelet makes ready
        self._count = 0

    @property
    def api(self) -> httpx.Client:
        """An administrator."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {_ADMIN_TOKEN}"},
            verify=_trusting(self.certificate),
            timeout=10,
        )

    def get(self, path: str) -> Object:
        """An object, or a list of them."""
        with self.api as api:
            return _good(api.get(path))

    def create(self, path: str, body: Object) -> Object:
        """A new object."""
        with self.api as api:
            return _good(api.post(path, json=body))

    def patch(self, path: str, body: Object) -> Object:
        """An object changed by a merge patch."""
        kind = {"Content-Type": "application/merge-patch+json"}
        with self.api as api:
            return _good(api.patch(path, json=body, headers=kind))

    def delete(self, path: str) -> None:
        """An object that goes at once."""
        with self.api as api:
            _good(api.request("DELETE", path, json={"gracePeriodSeconds": 0, "propagationPolicy": "Background"}))

    def namespace(self) -> str:
        """A new, empty namespace."""
        self._count += 1
        name = f"aureus-{self._count}"
        self.create("/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def pods(self, namespace: str) -> list[Object]:
        """The pods of a namespace."""
        found: list[Object] = self.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
        return found

    def until(self, ready: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Return when `ready()`; TimeoutError after a while."""
        waited = threading.Event()
        for _ in range(round(timeout_s / _KUBELET_POLL_S)):
            if ready():
                return
            waited.wait(_KUBELET_POLL_S)
        raise TimeoutError(f"{what}: not within {timeout_s:g} s")

    def settled(self, path: str) -> None:
        """Return when all pods of a Deployment are of its newest revision and ready."""

        def is_settled() -> bool:
            found = self.get(path)
            status, wanted = found["status"], found["spec"]["replicas"]
            counts = {status.get(f"{name}eplicas", 0) for name in ("r", "updatedR", "availableR")}
            return status.get("observedGeneration") == found["metadata"]["generation"] and counts == {wanted}

        self.until(is_settled, f"{path} is up")

    def volume(self, namespace: str, name: str, size: str) -> None:
        """A bound claim of a storage class that can expand volumes; nothing but the test expands them."""
        classes = "/apis/storage.k8s.io/v1/storageclasses"
        if not any(one["metadata"]["name"] == "growing" for one in self.get(classes)["items"]):
            made = {"metadata": {"name": "growing"}, "provisioner": "aureus.test/none", "allowVolumeExpansion": True}
            self.create(classes, made)
        claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        self.create(claims, {"metadata": {"name": name}, "spec": spec | {"storageClassName": "growing"}})
        self.grow(namespace, name, size)

    def grow(self, namespace: str, name: str, size: str) -> None:
        """Report that the volume has this size, as a storage driver would."""
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}/status"
        self.patch(path, {"status": {"phase": "Bound", "capacity": {"storage": size}}})

    def account(self, namespace: str, name: str) -> str:
        """The token of a new service account, which may do nothing yet."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.create(path, {"metadata": {"name": name}})
        token: str = self.create(f"{path}/{name}/token", {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        return token

    def kubeconfig(self, token: str = _ADMIN_TOKEN) -> Path:
        """A kubeconfig file for whoever has this token."""
        self._count += 1
        file = self.folder / f"kubeconfig-{self._count}"
        server = {"server": self.url, "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        return file

    def be_kubelets(self, stop: threading.Event) -> None:
        """Report pods as ready or not until told to stop."""
        with self.api as api:
            while not stop.wait(_KUBELET_POLL_S):
                with suppress(httpx.TransportError):
                    for pod in api.get("/api/v1/pods").json().get("items", ()):
                        self._report(api, pod)

    def _report(self, api: httpx.Client, pod: Object) -> None:
        metadata = pod["metadata"]
        broken = any(one["image"] == "broken" for one in pod["spec"]["containers"])
        wished = "False" if broken or metadata["name"] in self.unready else "True"
        status = pod.setdefault("status", {})
        if any(one["type"] == "Ready" and one["status"] == wished for one in status.get("conditions") or ()):
            return
        status["phase"] = "Running"
        since = {"lastTransitionTime": metadata["creationTimestamp"]}
        status["conditions"] = [{"type": "Ready", "status": wished, **since}]
        api.put(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status", json=pod)


def _private_key() -> bytes:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def _good(answer: httpx.Response) -> Object:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    found: Object = answer.json()
    return found


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    """A workload of one container, alive as soon as its pods are."""
    labels = {"app": name}
    container = {"name": "main", "image": "app:1", "env": [{"name": "LEVEL", "value": "info"}]}
    container["resources"] = {"requests": {"cpu": "100m"}, "limits": {"memory": "256Mi"}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template, **spec}}


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose data and logs are in `folder`; ready when yielded."""
    programs = require("kubernetes")
    client_port, peer_port, port = free_ports(3)
    cluster = Cluster(folder, port)
    (folder / "tokens.csv").write_text(f"{_ADMIN_TOKEN},admin,admin,system:masters\n", encoding="utf-8")
    key = folder / "accounts.key"
    key.write_bytes(_private_key())
    etcd_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    etcd = [
        *(f"--data-dir={folder / 'etcd'}", "--unsafe-no-fsync"),
        *(f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}"),
        *(f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}"),
        f"--initial-cluster=default={peer_url}",
    ]
    server = [
        *(f"--etcd-servers={etcd_url}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"),
        *(f"--secure-port={port}", f"--cert-dir={folder / 'certificates'}", "--service-cluster-ip-range=10.0.0.0/24"),
        *(f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC"),
        *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
        *("--service-account-issuer=https://aureus.test", "--disable-admission-plugins=ServiceAccount"),
    ]
    manager = [
        *(f"--kubeconfig={cluster.kubeconfig()}", f"--controllers={','.join(_CONTROLLERS)}"),
        *("--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"),
    ]
    running: list[Program] = []
    stop = threading.Event()
    kubelets = threading.Thread(target=cluster.be_kubelets, args=(stop,), daemon=True)
    try:
        running.append(Program([str(programs / "etcd"), *etcd], folder / "etcd.log"))
        running.append(Program([str(programs / "kube-apiserver"), *server], folder / "kube-apiserver.log"))
        running[-1].wait_until(lambda: _is_ready(cluster), "kube-apiserver")
        running.append(Program([str(programs / "kube-controller-manager"), *manager], folder / "manager.log"))
        kubelets.start()
        yield cluster
    finally:
        stop.set()
        if kubelets.is_alive():
            kubelets.join()
        for program in reversed(running):
            program.kill()


def _is_ready(cluster: Cluster) -> bool:
    if not cluster.certificate.exists():
        return False
    try:
        with cluster.api as api:
            return api.get("/readyz").is_success
    except (httpx.TransportError, json.JSONDecodeError):
        return False
