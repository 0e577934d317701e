"""Cluster, the images and the installed chart: made once, kept for all tests, explained on failure.

`OCTAVO_E2E_CONTEXT` names a cluster of your own in place of kind's; then `OCTAVO_REGISTRY` says where its
images are pushed, and `OCTAVO_E2E_PROMETHEUS_URL` where its Prometheus is. `OCTAVO_E2E_KEEP=1` leaves the
namespaces of the tests for a look afterwards.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e.lib import clients
from e2e.lib.environment import Environment, OwnCluster, prepare
from e2e.lib.explain import explain
from e2e.lib.install import (
    OPERATOR_NAMESPACE,
    Helm,
    Images,
    restricted_namespace,
    upgrade_arguments,
)
from e2e.lib.kubectl import Kubectl
from e2e.lib.wait import wait_for

CLUSTER = "octavo-e2e"
WORKERS = 2
FAKE_GPUS = 1
KEEP = os.environ.get("OCTAVO_E2E_KEEP") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def environment() -> Environment:
    """The cluster with the images in its registry."""
    own = None
    if context := os.environ.get("OCTAVO_E2E_CONTEXT"):
        own = OwnCluster(
            context,
            os.environ.get("OCTAVO_REGISTRY", ""),
            os.environ.get("OCTAVO_E2E_PROMETHEUS_URL", ""),
        )
    return prepare(CLUSTER, WORKERS, FAKE_GPUS, own)


@pytest.fixture(scope="session")
def images(environment: Environment) -> Images:
    return environment.images


@pytest.fixture(scope="session")
def helm(environment: Environment) -> Helm:
    return environment.helm


@pytest.fixture(scope="session")
def octavo(environment: Environment) -> Kubectl:
    """kubectl on the cluster, with the operator installed into a restricted namespace."""
    kubectl = environment.kubectl
    for namespace in kubectl.list("namespaces", "octavo.dev/e2e=true"):
        kubectl.delete("namespace", namespace["metadata"]["name"], "--wait=true")
    kubectl.apply(restricted_namespace(OPERATOR_NAMESPACE))
    environment.helm.run(*upgrade_arguments(environment.images, environment.prometheus_url))
    return kubectl


@pytest.fixture(scope="module")
def namespace(octavo: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace of its own for each module, with the restricted Pod Security Standard."""
    name = "e2e-" + re.sub(r"[^a-z0-9]+", "-", request.path.stem.removeprefix("test_"))
    manifest = restricted_namespace(name)
    manifest["metadata"]["labels"]["octavo.dev/e2e"] = "true"
    octavo.apply(manifest)
    wait_for(
        "the namespace's default ServiceAccount",
        lambda: octavo.within(name).get("serviceaccount", "default"),
        timeout_seconds=30,
    )
    yield octavo.within(name)
    if not KEEP:
        octavo.delete("namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def client(namespace: Kubectl, images: Images) -> Kubectl:
    """A client's pod in the module's namespace; it may still be starting."""
    clients.start_client(namespace, images.runtime)
    return namespace


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with the conditions, Events and logs of its namespace."""
    report = yield
    kubectl = getattr(item, "funcargs", {}).get("namespace")
    if report.failed and isinstance(kubectl, Kubectl) and "--- Events" not in report.longreprtext:
        for llmd in kubectl.list("llmd"):
            name = llmd["metadata"]["name"]
            report.sections.append((f"cluster: {name}", explain(kubectl, name)))
    if call.when == "call":
        report.sections.append(("clock", f"{time.strftime('%H:%M:%S')} {call.duration:.1f} s"))
    return report
