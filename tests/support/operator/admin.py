"""What a user with kubectl does to a control plane: plain requests with all rights."""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from octavo_operator import rbac
from octavo_operator.crd import crd
from tests.support.operator.control_plane import ControlPlane

Object = dict[str, Any]


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


MINIMAL = {"model": {"uri": "builtin://demo"}}


def path(namespace: str, name: str = "") -> str:
    base = f"/apis/octavo.dev/v1alpha1/namespaces/{namespace}/llmdeployments"
    return f"{base}/{name}" if name else base


def create(admin: Admin, namespace: str, name: str = "llama", **spec: Any) -> Answer:
    body = {
        "apiVersion": "octavo.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {**MINIMAL, **copy.deepcopy(spec)},
    }
    return admin.request("POST", f"{path(namespace)}?fieldValidation=Strict", body)
