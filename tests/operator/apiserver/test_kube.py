"""The client against a real API server, where an in-memory one can only guess its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from octavo_operator.kube import ApiServer, KubeError, load_configuration
from octavo_operator.manifest import LLM_DEPLOYMENT, SERVICE, Manifest
from tests.support.operator.admin import Admin, create, wait_until
from tests.support.operator.admin import path as path_of
from tests.support.operator.control_plane import ControlPlane
from tests.support.operator.webhook import RefusingWebhook

PORTS = [{"name": "http", "port": 8000}]


def asked(plane: ControlPlane, request: Callable[[ApiServer], Awaitable[Any]]) -> Any:
    async def ask() -> Any:
        kube = ApiServer(await load_configuration(str(plane.operator_kubeconfig)), 15)
        try:
            return await request(kube)
        finally:
            await kube.close()

    return asyncio.run(ask())


@pytest.fixture
def service(admin: Admin, namespace: str) -> Manifest:
    path = f"/api/v1/namespaces/{namespace}/services"
    return admin.create(path, {"metadata": {"name": "llama"}, "spec": {"ports": PORTS}})


def patched(plane: ControlPlane, live: Manifest, *operations: Manifest) -> Manifest:
    found: Manifest = asked(plane, lambda kube: kube.patch(SERVICE, live, operations))
    return found


AFFINITY = {"op": "add", "path": "/spec/sessionAffinity", "value": "ClientIP"}


def test_a_patch_of_what_was_read_is_carried_out(
    control_plane: ControlPlane, service: Manifest
) -> None:
    assert patched(control_plane, service, AFFINITY)["spec"]["sessionAffinity"] == "ClientIP"


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_patch_of_what_somebody_else_has_changed_since_is_a_lost_race(
    control_plane: ControlPlane, admin: Admin, service: Manifest, *, is_deleted: bool
) -> None:
    path = f"/api/v1/namespaces/{service['metadata']['namespace']}/services/llama"
    if is_deleted:
        admin.request("DELETE", path)
    else:
        admin.merge(path, {"metadata": {"labels": {"team": "blue"}}})
    with pytest.raises(KubeError, match="has changed since it was read") as caught:
        patched(control_plane, service, AFFINITY)
    assert caught.value.is_conflict
    assert not caught.value.is_refusal


def test_a_patch_that_makes_an_impossible_object_is_a_refusal_with_its_field(
    control_plane: ControlPlane, service: Manifest
) -> None:
    nonsense = {"op": "add", "path": "/spec/sessionAffinity", "value": "Sometimes"}
    with pytest.raises(KubeError, match=r"spec\.sessionAffinity") as caught:
        patched(control_plane, service, nonsense)
    assert caught.value.is_refusal


@pytest.fixture
def status(admin: Admin, namespace: str) -> Manifest:
    """One of an object that is there."""
    live = create(admin, namespace).body
    kept = ("name", "namespace", "uid", "resourceVersion")
    return {
        **{key: live[key] for key in ("apiVersion", "kind")},
        "metadata": {key: live["metadata"][key] for key in kept},
        "status": {"revision": "r"},
    }


def told(plane: ControlPlane, status: Manifest) -> Manifest | None:
    found: Manifest | None = asked(plane, lambda kube: kube.apply_status(LLM_DEPLOYMENT, status))
    return found


def test_a_status_reaches_an_object_that_was_edited_and_none_that_took_its_name(
    control_plane: ControlPlane, admin: Admin, namespace: str, status: Manifest
) -> None:
    where = path_of(namespace, "llama")
    admin.merge(where, {"spec": {"replicas": 2}})
    assert (told(control_plane, status) or {})["status"]["revision"] == "r"
    admin.request("DELETE", where)
    assert told(control_plane, status) is None
    create(admin, namespace)
    assert told(control_plane, status) is None
    assert "revision" not in (admin.get(where) or {})["status"]


def test_a_webhook_that_answers_as_if_the_object_was_gone_is_a_refusal(
    control_plane: ControlPlane, admin: Admin, service: Manifest, status: Manifest, tmp_path: Path
) -> None:
    """Of a status, which then is never written, and of what is to be deleted, which then stays."""
    namespace = service["metadata"]["namespace"]
    resources = ["llmdeployments/status", "services"]
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "resources": resources}
    hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    with RefusingWebhook(tmp_path) as webhook:
        admin.create(hooks, webhook.configuration(namespace, namespace, rule))
        wait_until(lambda: told(control_plane, status) and webhook.reviews)
        for webhook.status in (404, 409):
            with pytest.raises(KubeError, match="not today") as caught:
                told(control_plane, {**status, "status": {"revision": str(webhook.status)}})
            assert caught.value.status == webhook.status
            with pytest.raises(KubeError, match="not today"):
                asked(control_plane, lambda kube: kube.delete(SERVICE, service))
        admin.request("DELETE", f"{hooks}/{namespace}")
    # Another one by now is none of ours to delete.
    other = {**service, "metadata": {**service["metadata"], "uid": status["metadata"]["uid"]}}
    asked(control_plane, lambda kube: kube.delete(SERVICE, other))
    assert admin.get(f"/api/v1/namespaces/{namespace}/services/llama")
