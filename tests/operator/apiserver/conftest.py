"""One control plane for all tests of this folder, with the CRD and the operator's RBAC installed."""

from __future__ import annotations

import asyncio
import json
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from octavo_operator import rbac
from octavo_operator.crd import crd
from octavo_operator.kube import ApiServer, load_configuration
from tests.support.operator.control_plane import ControlPlane, find_binary, running
from tests.support.requirements import Requirement, lacks

Object = dict[str, Any]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Skips when no binaries can be had; `make test` builds them with the cluster."""
    etcd, kube_apiserver = find_binary("etcd"), find_binary("kube-apiserver")
    if etcd is None or kube_apiserver is None:
        lacks(
            Requirement.API_SERVER,
            "etcd and kube-apiserver are neither in $OCTAVO_APISERVER_BIN_DIR nor in "
            "$OCTAVO_CACHE/bin nor on PATH: `make cluster-up` builds them",
        )
    with running(tmp_path_factory.mktemp("apiserver"), etcd, kube_apiserver) as plane:
        admin = Admin(plane)
        admin.install_crd()
        admin.install_rbac()
        yield plane


@pytest.fixture(scope="session")
def admin(control_plane: ControlPlane) -> Admin:
    return Admin(control_plane)


@pytest.fixture
def namespace(admin: Admin) -> str:
    """A namespace of its own for each test. Nothing here deletes namespaces, so it stays."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    admin.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": name}})
    return name


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: Object

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


class Admin:
    """What a user with kubectl does: plain requests with all rights."""

    def __init__(self, plane: ControlPlane) -> None:
        config = yaml.safe_load(plane.kubeconfig.read_text(encoding="utf-8"))
        self._url = plane.url
        self._token = config["users"][0]["user"]["token"]
        certificate = config["clusters"][0]["cluster"]["certificate-authority"]
        self._ssl = ssl.create_default_context(cafile=certificate)

    def request(
        self, method: str, path: str, body: Object | None = None, content: str = "application/json"
    ) -> Answer:
        request = urllib.request.Request(  # noqa: S310 (the address is ours)
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": content},
        )
        try:
            with urllib.request.urlopen(request, context=self._ssl, timeout=30) as answer:  # noqa: S310
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.load(error))

    def create(self, path: str, body: Object) -> Object:
        answer = self.request("POST", path, body)
        assert answer.status in (201, 409), answer.message
        return answer.body

    def merge(self, path: str, body: Object) -> Answer:
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def get(self, path: str) -> Object | None:
        answer = self.request("GET", path)
        return answer.body if answer.status == 200 else None

    def items(self, path: str) -> list[Object]:
        return list(self.request("GET", path).body["items"])

    def install_crd(self) -> None:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.create(path, crd())
        wait_until(
            lambda: any(
                condition["type"] == "Established" and condition["status"] == "True"
                for condition in (self.get(f"{path}/{crd()['metadata']['name']}") or {})
                .get("status", {})
                .get("conditions", [])
            )
        )

    def install_rbac(self) -> None:
        """Exactly what `rbac.py` states, bound to the user that the operator's kubeconfig names."""
        rules = [
            {
                "apiGroups": [rule.api_group],
                "resources": list(rule.resources),
                "verbs": list(rule.verbs),
            }
            for rule in (*rbac.NAMESPACED_RULES, *rbac.OWN_NAMESPACE_RULES)
        ]
        base = "/apis/rbac.authorization.k8s.io/v1"
        name = {"name": "octavo-operator"}
        self.create(f"{base}/clusterroles", {"metadata": name, "rules": rules})
        subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", **name}
        role = {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", **name}
        self.create(
            f"{base}/clusterrolebindings",
            {"metadata": name, "subjects": [subject], "roleRef": role},
        )


def wait_until(is_true: Callable[[], object], timeout_seconds: float = 60.0) -> None:
    """Polls; fails when it takes too long."""

    async def poll() -> None:
        async with asyncio.timeout(timeout_seconds):
            while not is_true():
                await asyncio.sleep(0.05)

    asyncio.run(poll())


async def open_kube(kubeconfig: Path) -> ApiServer:
    """The operator's own client."""
    return ApiServer(await load_configuration(str(kubeconfig)), request_timeout_seconds=10)
