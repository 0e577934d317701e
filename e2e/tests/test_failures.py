"""Failures. What cannot work says so: a condition with a reason within 30 s of the apply, and a sentence to
act on; an alarm when it has lasted."""

from __future__ import annotations

import dataclasses
import time

import pytest

from e2e.lib.explain import explain
from e2e.lib.kubectl import Kubectl, Object
from e2e.lib.llmd import condition
from e2e.lib.wait import wait_for

LIMIT_SECONDS = 30
ALARM_SECONDS = 75
"""Of a download that breaks off the second time is the alarm."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A model that cannot be served, and the reasons that are true of it."""

    name: str
    spec: Object
    reasons: frozenset[str]


CASES = (
    # Without a way out it is the download that fails; with one, the hub does not know the name.
    Case(
        "no-such-repository",
        {"model": {"uri": "hf://octavo-no-such-organisation/no-such-model"}},
        frozenset({"DownloadFailed", "ModelNotFound"}),
    ),
    Case(
        "empty-folder",
        {"model": {"uri": "pvc://empty/nothing"}},
        frozenset({"ModelNotFound", "ModelInvalid"}),
    ),
    Case("no-claim", {"model": {"uri": "pvc://absent/model"}}, frozenset({"VolumeUnavailable"})),
    Case(
        "no-node",
        {"model": {"uri": "builtin://demo"}, "resources": {"cpu": "900"}},
        frozenset({"Unschedulable"}),
    ),
)
SPEC_SMALL = {"cpu": "100m"}


def claim() -> list[Object]:
    """A bound claim on an empty folder of whichever node the pod runs on."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "octavo-e2e-empty", "labels": {"octavo.dev/e2e": "true"}},
        "spec": {
            "capacity": {"storage": "1Mi"},
            "accessModes": ["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "octavo-e2e",
            "hostPath": {"path": "/var/lib/octavo-e2e-empty", "type": "DirectoryOrCreate"},
        },
    }
    wanted = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "empty"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "octavo-e2e",
            "volumeName": "octavo-e2e-empty",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    return [volume, wanted]


@pytest.fixture(scope="module")
def applied(namespace: Kubectl) -> float:
    """All cases, applied at once; returns when that was."""
    namespace.delete("persistentvolume", "octavo-e2e-empty", "--wait=true")
    namespace.apply(*claim())
    start = time.monotonic()
    namespace.apply(
        *(
            {
                "apiVersion": "octavo.dev/v1alpha1",
                "kind": "LLMDeployment",
                "metadata": {"name": case.name},
                "spec": {"resources": SPEC_SMALL, **case.spec},
            }
            for case in CASES
        )
    )
    return start


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_condition_says_why_within_half_a_minute(
    namespace: Kubectl, applied: float, case: Case
) -> None:
    seen = wait_for(
        f"one of {sorted(case.reasons)}",
        lambda: condition(namespace.must_get("llmd", case.name), "Ready"),
        lambda ready: ready.status == "False" and ready.reason in case.reasons,
        timeout_seconds=LIMIT_SECONDS - (time.monotonic() - applied),
        explain=lambda: explain(namespace, case.name),
    )
    turned = time.monotonic() - applied
    print(f"{case.name}: {seen} (seen {turned:.1f} s after the apply)")
    assert seen.message
    wait_for(
        "an alarm",
        lambda: condition(namespace.must_get("llmd", case.name), "Degraded"),
        lambda degraded: degraded.is_true and degraded.reason in case.reasons,
        timeout_seconds=ALARM_SECONDS - (time.monotonic() - applied),
        explain=lambda: explain(namespace, case.name),
    )
