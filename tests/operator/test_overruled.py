"""Admission that changes what we apply, as a webhook or a policy of the cluster does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from octavo_operator.manifest import DEPLOYMENT, SERVICE, Kind, Manifest
from octavo_operator.overruled import FIRST_SECONDS, LONGEST_SECONDS
from tests.support.operator.builders import KEY
from tests.support.operator.world import World, refused


def other_image(deployment: Manifest) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["image"] = "mirror.internal/octavo-runtime:1"


def more_replicas(deployment: Manifest) -> None:
    deployment["spec"]["replicas"] = 3


def other_label(deployment: Manifest) -> None:
    deployment["metadata"]["labels"]["app.kubernetes.io/part-of"] = "platform"


def whole_policy(deployment: Manifest) -> None:
    """A platform's rules for pods, of which there are many, and one for Deployments."""
    other_image(deployment)
    pod = deployment["spec"]["template"]["spec"]
    pod["securityContext"] = {}
    pod["priorityClassName"] = "low"
    pod["terminationGracePeriodSeconds"] = 1
    pod["containers"][0]["imagePullPolicy"] = "Always"
    deployment["spec"]["progressDeadlineSeconds"] = 60
    deployment["spec"]["revisionHistoryLimit"] = 0


def admitted_by(
    change: Callable[[Manifest], None], monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> World:
    world = World(**fields)
    apply = world.kube.apply

    async def admitting(kind: Kind, manifest: Manifest) -> Manifest:
        manifest = copy.deepcopy(manifest)
        if kind == DEPLOYMENT:
            change(manifest)
        return await apply(kind, manifest)

    monkeypatch.setattr(world.kube, "apply", admitting)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    return world


@pytest.mark.parametrize(
    ("change", "ready", "degraded"),
    [
        (other_image, "spec.template.spec.containers[0].image of Deployment llama", ""),
        (more_replicas, "", "spec.replicas of Deployment llama is not as applied"),
        (other_label, "", ""),
    ],
)
def test_what_admission_changes_each_time_is_told_and_not_applied_in_vain(
    change: Callable[[Manifest], None],
    ready: str,
    degraded: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = admitted_by(change, monkeypatch)
    world.kube.requests.clear()
    for _ in range(3):
        world.deployment["metadata"]["resourceVersion"] += "0"  # its status moves meanwhile
        world.reconcile()
    assert [each for each in world.kube.writes if each[0] == "apply"] == []
    told = {each["type"]: each for each in world.status["conditions"]}
    assert ready in told["Ready"]["message"]
    assert ("not as applied" in told["Ready"]["message"]) is bool(ready)
    assert told["Degraded"]["reason"] == ("Contested" if degraded else "AsExpected")
    assert degraded in told["Degraded"]["message"]
    # Whoever stops changing it does not say so: it is tried again, and less and less often.
    tried, wait = [], 0.0
    while world.seconds < 3600:
        wait = world.reconcile() or 0.0
        world.seconds += wait
        world.kube.requests.clear()
        world.reconcile()
        tried += (
            [world.seconds] if [each for each in world.kube.writes if each[0] == "apply"] else []
        )
    assert tried[:4] == [FIRST_SECONDS, 90, 210, 450]
    assert tried[4] == 450 + LONGEST_SECONDS
    assert len(tried) <= 3 + 3600 / LONGEST_SECONDS
    monkeypatch.undo()
    world.seconds += world.reconcile() or 0.0
    world.reconcile()
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
    message = next(each for each in world.status["conditions"] if each["type"] == "Ready")[
        "message"
    ]
    assert "not as applied" not in message


def test_every_field_that_admission_changes_is_told_and_of_many_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {"scheduling": {"priorityClassName": "high"}}
    world = admitted_by(whole_policy, monkeypatch, **fields)
    world.reconcile()
    told = {each["type"]: each["message"] for each in world.status["conditions"]}
    assert "securityContext" in told["Ready"]
    assert " more of Deployment llama are not as applied" in told["Ready"]
    both = "spec.revisionHistoryLimit, spec.progressDeadlineSeconds of Deployment llama are not"
    assert both in told["Degraded"]
    assert "revisionHistoryLimit" not in told["Ready"]


def test_a_change_of_the_spec_is_applied_whatever_was_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = admitted_by(other_image, monkeypatch)
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    assert "--max-num-seqs" in str(world.deployment["spec"])


def test_it_is_told_whatever_else_keeps_the_model_from_being_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = admitted_by(other_image, monkeypatch)
    world.kube.live(SERVICE, KEY.namespace, KEY.name)["spec"]["selector"] = {"app": "another"}
    world.kube.fault = refused(SERVICE)
    world.reconcile()
    told = {each["type"]: each for each in world.status["conditions"]}
    assert told["Ready"]["reason"] == "ApplyFailed"
    assert "image of Deployment llama is not as applied" in told["Ready"]["message"]
