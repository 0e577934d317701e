"""Cluster: one namespace of a real API server as a test sees it.

No controllers run there, so a test writes what they would: the pods and their status. Deleting an owner
collects nothing for the same reason; the end-to-end tests see that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.operator.admin import Admin, path, wait_until
from tests.support.operator.fake_kube import endpoint_slice

COLLECTIONS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
}
ORDINARY = set(COLLECTIONS) - {"PersistentVolumeClaim"}


class Cluster:
    """One namespace as a test sees it."""

    def __init__(self, admin: Admin, namespace: str) -> None:
        self.admin, self.namespace = admin, namespace

    def children(self, name: str = "llama") -> dict[str, dict[str, Any]]:
        found = {}
        for kind, collection in COLLECTIONS.items():
            for item in self.admin.items(collection.format(self.namespace)):
                if item["metadata"].get("labels", {}).get("octavo.dev/llmdeployment") == name:
                    found[kind] = item
        return found

    def wait_children(self, kinds: set[str] = ORDINARY) -> dict[str, dict[str, Any]]:
        wait_until(lambda: set(self.children()) == kinds)
        return self.children()

    def condition(self, type_: str, name: str = "llama") -> tuple[str, str]:
        live = self.admin.get(path(self.namespace, name)) or {}
        for condition in live.get("status", {}).get("conditions", []):
            if condition["type"] == type_:
                return condition["status"], condition["reason"]
        return ("", "")

    def generation(self, name: str = "llama") -> int:
        return int((self.admin.get(path(self.namespace, name)) or {})["metadata"]["generation"])

    def mutate(self, resources: dict[str, Any], change: str) -> Callable[[], None]:
        """A policy that changes what is written of these in this namespace; returns what takes it away.

        Args:
            change: In CEL, the operations of a JSON patch.
        """
        group = "/apis/admissionregistration.k8s.io/v1"
        name = {"metadata": {"name": self.namespace}}
        label = {"kubernetes.io/metadata.name": self.namespace}
        policy = {
            "matchConstraints": {
                "resourceRules": [{**resources, "operations": ["CREATE", "UPDATE"]}],
                "namespaceSelector": {"matchLabels": label},
            },
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": change}}],
        }
        made: dict[str, dict[str, Any]] = {
            "mutatingadmissionpolicies": {**name, "spec": policy},
            "mutatingadmissionpolicybindings": {**name, "spec": {"policyName": self.namespace}},
        }
        for plural, body in made.items():
            self.admin.create(f"{group}/{plural}", body)

        def remove() -> None:
            for plural in made:
                self.admin.request("DELETE", f"{group}/{plural}/{self.namespace}")

        return remove

    def status(self) -> dict[str, Any]:
        live = self.admin.get(path(self.namespace, "llama")) or {}
        status: dict[str, Any] = live.get("status", {})
        return status

    def versions(self) -> dict[str, str]:
        live = {**self.children(), "": self.admin.get(path(self.namespace, "llama")) or {}}
        return {kind: each["metadata"]["resourceVersion"] for kind, each in live.items()}

    def add_pod(self, name: str, status: dict[str, Any], owner: str = "llama") -> None:
        """What the ReplicaSet controller, the scheduler and the kubelet would do."""
        template = self.children(owner)["Deployment"]["spec"]["template"]
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        labels = template["metadata"]["labels"]
        template_hash = labels["octavo.dev/revision"]
        made_by = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": f"{owner}-{template_hash}",
            "uid": f"uid-of-{template_hash}",
            "controller": True,
        }
        pod = {
            "metadata": {
                "name": name,
                "labels": labels | {"pod-template-hash": template_hash},
                "ownerReferences": [made_by],
            },
            "spec": template["spec"],
        }
        answer = self.admin.request("POST", pods, pod)
        assert answer.status == 201, answer.message
        answer = self.admin.merge(f"{pods}/{name}/status", {"status": status})
        assert answer.status == 200, answer.message
        if any(
            (each["type"], each["status"]) == ("Ready", "True")
            for each in status.get("conditions", ())
        ):
            self.lead_to(name, service=owner)

    def lead_to(self, *pods: str, service: str = "llama") -> None:
        """What the controller of EndpointSlices would do."""
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices"
        wanted = endpoint_slice(self.namespace, service, *pods)
        if self.admin.request("POST", slices, wanted).status == 201:
            return
        endpoints = {"endpoints": wanted["endpoints"]}
        answer = self.admin.merge(f"{slices}/{wanted['metadata']['name']}", endpoints)
        assert answer.status == 200, answer.message


READY = {
    "phase": "Running",
    "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": "True"},
    ],
}
