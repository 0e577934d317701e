"""The client against a real API server, where an in-memory one can only guess its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from octavo_operator.kube import ApiServer, KubeError, load_configuration
from octavo_operator.manifest import SERVICE, Manifest
from tests.support.operator.admin import Admin
from tests.support.operator.control_plane import ControlPlane

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
