"""`octavo_operator.kube.Kube` in memory: server-side apply, resource versions, generations, uids.

It keeps what tests of reconcile rely on: an apply that changes nothing keeps the resource version,
the spec has a generation, owned objects go with their owner, and any request can be made to fail.
What only a real API server does (schemas, defaults, field ownership) is tested against one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from octavo_operator.kube import KubeError
from octavo_operator.manifest import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    FIELD_MANAGER,
    POD,
    Kind,
    Manifest,
)

OURS = {"manager": FIELD_MANAGER, "operation": "Apply"}
"""What `managedFields` tell of our applies."""

Path = tuple[str, str, str]
Fault = Callable[[str, Kind, str], KubeError | None]


class FakeKube:
    """`requests` records every call as `(verb, kind, name)`; `fault` may answer one with an error."""

    def __init__(self) -> None:
        self.objects: dict[Path, Manifest] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.fault: Fault = lambda _verb, _kind, _name: None
        self._version = 0

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        return [request for request in self.requests if request[0] not in ("get", "list")]

    def put(self, kind: Kind, manifest: Manifest) -> Manifest:
        """As a user or a controller writes it, unrecorded."""
        manifest = copy.deepcopy(manifest)
        metadata = manifest["metadata"]
        path = (kind.kind, metadata["namespace"], metadata["name"])
        before = self.objects.get(path)
        if before is not None and _content(before) == _content(manifest):
            return copy.deepcopy(before)
        self._version += 1
        metadata.setdefault("uid", before["metadata"]["uid"] if before else f"uid-{self._version}")
        metadata["resourceVersion"] = str(self._version)
        generation = before["metadata"].get("generation", 1) if before else 1
        is_new_spec = before is not None and before.get("spec") != manifest.get("spec")
        metadata["generation"] = generation + is_new_spec
        self.objects[path] = manifest
        return copy.deepcopy(manifest)

    def live(self, kind: Kind, namespace: str, name: str) -> Manifest:
        return self.objects[kind.kind, namespace, name]

    def kinds(self) -> list[str]:
        made_by_others = ("Event", "EndpointSlice")
        return sorted(kind for kind, _, _ in self.objects if kind not in made_by_others)

    def remove(self, kind: Kind, namespace: str, name: str) -> None:
        """With everything that it owns."""
        gone = self.objects.pop((kind.kind, namespace, name))
        for path, child in list(self.objects.items()):
            owners = child["metadata"].get("ownerReferences", ())
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                del self.objects[path]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self._record("get", kind, name)
        return copy.deepcopy(self.objects.get((kind.kind, namespace, name)))

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        self._record("list", kind, "")
        return [
            copy.deepcopy(each)
            for (kind_name, where, _), each in self.objects.items()
            if kind_name == kind.kind
            and namespace in (None, where)
            and (labels or {}).items() <= each["metadata"].get("labels", {}).items()
            and all(_field(each, path) == value for path, value in (fields or {}).items())
        ]

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        self._record("apply", kind, metadata["name"])
        before = self.objects.get((kind.kind, metadata["namespace"], metadata["name"]))
        kept = {"status": before["status"]} if before and "status" in before else {}
        written = {**metadata, "managedFields": [OURS]}
        return self.put(kind, {**manifest, **kept, "metadata": written})

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        metadata = manifest["metadata"]
        self._record("status", kind, metadata["name"])
        before = self.objects.get((kind.kind, metadata["namespace"], metadata["name"]))
        if before is None or before["metadata"]["uid"] != metadata["uid"]:
            return None
        return self.put(kind, {**before, "status": manifest["status"]})

    async def patch(
        self, kind: Kind, manifest: Manifest, operations: Sequence[Manifest]
    ) -> Manifest:
        metadata = manifest["metadata"]
        self._record("patch", kind, metadata["name"])
        live = self.live(kind, metadata["namespace"], metadata["name"])
        if live["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise KubeError(409, "Conflict", "the object has been modified")
        return self.put(kind, patched(live, operations))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        self._record("create", kind, metadata["name"])
        if (kind.kind, metadata["namespace"], metadata["name"]) in self.objects:
            raise KubeError(409, "AlreadyExists", f"{metadata['name']} exists")
        return self.put(kind, manifest)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        self._record("replace", kind, metadata["name"])
        before = self.objects.get((kind.kind, metadata["namespace"], metadata["name"]))
        if before is None:
            raise KubeError(404, "NotFound", f"{metadata['name']} does not exist")
        if before["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise KubeError(409, "Conflict", "the object has been modified")
        return self.put(kind, manifest)

    async def delete(self, kind: Kind, manifest: Manifest, *, spares_pods: bool = False) -> None:
        metadata = manifest["metadata"]
        self._record("delete", kind, metadata["name"])
        self.remove(kind, metadata["namespace"], metadata["name"])

    def run_pods(
        self,
        namespace: str,
        name: str,
        *,
        ready: bool = True,
        since: str = "2026-05-04T12:00:00Z",
    ) -> None:
        """What the controllers and the kubelet do: pods of the template's revision, as many as
        wanted, and the Service's endpoints."""
        deployment = self.live(DEPLOYMENT, namespace, name)
        for path in [path for path in self.objects if path[0] == POD.kind]:
            del self.objects[path]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        template_hash = labels["octavo.dev/revision"]
        for index in range(deployment["spec"]["replicas"]):
            self.put(
                POD,
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{name}-{index}",
                        "namespace": namespace,
                        "labels": labels | {"pod-template-hash": template_hash},
                        "ownerReferences": [
                            {
                                "kind": "ReplicaSet",
                                "name": f"{name}-{template_hash}",
                                "uid": f"uid-of-{template_hash}",
                                "controller": True,
                            }
                        ],
                    },
                    "spec": copy.deepcopy(deployment["spec"]["template"]["spec"]),
                    "status": {
                        "phase": "Running",
                        "conditions": [
                            {"type": "PodScheduled", "status": "True"},
                            {
                                "type": "Ready",
                                "status": str(ready),
                                "lastTransitionTime": since,
                            },
                        ],
                    },
                },
            )
        replicas = range(deployment["spec"]["replicas"] if ready else 0)
        self.lead_to(namespace, name, *(f"{name}-{index}" for index in replicas))

    def lead_to(self, namespace: str, name: str, *pods: str) -> None:
        """The EndpointSlice of a Service that leads to these pods."""
        self.put(ENDPOINT_SLICE, endpoint_slice(namespace, name, *pods))

    def _record(self, verb: str, kind: Kind, name: str) -> None:
        self.requests.append((verb, kind.kind, name))
        if error := self.fault(verb, kind, name):
            raise error


def endpoint_slice(namespace: str, service: str, *pods: str) -> Manifest:
    """As the controller of EndpointSlices makes it, with the labels of the Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-1",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": service,
                "octavo.dev/llmdeployment": service,
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.0.0.{index + 1}"],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
            }
            for index, pod in enumerate(pods)
        ],
    }


def patched(live: Manifest, operations: Sequence[Manifest]) -> Manifest:
    """A copy of `live` after the operations of a JSON patch: `add`, `remove` and, of items, `replace`.
    Raises what Python raises where a path leads nowhere."""
    live = copy.deepcopy(live)
    for operation in operations:
        parts = operation["path"].removeprefix("/").split("/")
        *path, last = (part.replace("~1", "/").replace("~0", "~") for part in parts)
        parent: Any = live
        for part in path:
            parent = parent[int(part)] if isinstance(parent, list) else parent[part]
        place = int(last) if isinstance(parent, list) and last != "-" else last
        if operation["op"] == "remove":
            del parent[place]
        elif place == "-":
            parent.append(operation["value"])
        else:
            is_item = isinstance(parent, list)
            assert operation["op"] == ("replace" if is_item else "add")
            parent[place] = operation["value"]
    return live


def _field(manifest: Manifest, path: str) -> Any:
    found: Any = manifest
    for part in path.split("."):
        found = found.get(part, {})
    return found


def _content(manifest: Manifest) -> Manifest:
    bookkeeping = ("resourceVersion", "generation", "uid")
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in bookkeeping}
    return {**manifest, "metadata": metadata}
