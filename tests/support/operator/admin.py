"""Admin: what a user with kubectl does to a control plane: plain requests with all rights."""

from __future__ import annotations

import copy
import json
import queue
import ssl
import sys
import threading
import traceback
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
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: Object

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


def _told(body: bytes) -> Object:
    """A refusal; to paths that it does not know the API server answers with plain text."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {"message": body.decode(errors="replace")}


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
            return Answer(error.code, _told(error.read()))

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

    def install_crd(self, definition: Object | None = None) -> None:
        """Ours unless another one is given."""
        definition = definition or crd()
        self.create(DEFINITIONS, definition)
        path = f"{DEFINITIONS}/{definition['metadata']['name']}"
        wait_until(
            lambda: any(
                condition["type"] == "Established" and condition["status"] == "True"
                for condition in (self.get(path) or {}).get("status", {}).get("conditions") or ()
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


def wait_until(is_true: Callable[[], object], timeout_seconds: float = 100.0) -> None:
    """Polls; fails when it takes too long, with the place where the last look was.

    The looks are a thread's: one that never comes back, such as a request whose answer drips (a socket's
    timeout bounds each read of it, not their sum), ends the waiting as punctually as any other.
    """
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    is_given_up = threading.Event()

    def poll() -> None:
        try:
            while not is_given_up.is_set():
                if is_true():
                    outcome.put(None)
                    return
                is_given_up.wait(0.05)
        except BaseException as error:  # the caller's to handle, whatever it is
            outcome.put(error)

    thread = threading.Thread(target=poll, name="wait_until", daemon=True)
    thread.start()
    try:
        error = outcome.get(timeout=timeout_seconds)
    except queue.Empty:
        frame = sys._current_frames().get(thread.ident or 0)
        is_given_up.set()
        place = "".join(traceback.format_stack(frame)[-4:])
        raise TimeoutError(
            f"not true within {timeout_seconds} s; it looks here:\n{place}"
        ) from None
    if error is not None:
        raise error


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
