"""One control plane for all tests of this folder, with the CRD and the operator's RBAC installed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.operator.admin import Admin
from tests.support.operator.cluster import Cluster
from tests.support.operator.control_plane import ControlPlane, find_binary, running
from tests.support.operator.operator_process import OperatorProcess
from tests.support.requirements import Requirement, lacks


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def admin(control_plane: ControlPlane) -> Admin:
    return Admin(control_plane)


@pytest.fixture
def namespace(admin: Admin) -> str:
    """A namespace of its own for each test. Nothing here deletes namespaces, so it stays."""
    return new_namespace(admin)


@pytest.fixture(scope="package")
def session_namespace(admin: Admin) -> str:
    """One for tests that leave nothing behind."""
    return new_namespace(admin)


def new_namespace(admin: Admin) -> str:
    name = f"test-{uuid.uuid4().hex[:8]}"
    admin.create("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
def operator(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    process = OperatorProcess(control_plane, namespace, tmp_path / "operator.log")
    yield process
    process.stop()
    assert "Traceback" not in process.text(), process.text()
    assert "forbidden" not in process.text().lower(), process.text()


@pytest.fixture
def cluster(admin: Admin, namespace: str) -> Cluster:
    return Cluster(admin, namespace)
