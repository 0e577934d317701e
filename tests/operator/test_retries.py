"""What is tried again by itself is said at once, and no alarm before it has lasted."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from octavo_operator.manifest import POD
from octavo_operator.retries import PATIENCE_SECONDS
from tests.support.operator.builders import KEY, container
from tests.support.operator.world import World, running

BROKE_OFF = {"exitCode": 3, "message": '{"reason": "DownloadFailed", "message": "reset by peer"}'}
NO_MODEL = {"exitCode": 3, "message": '{"reason": "ModelNotFound", "message": "no such model"}'}
BACK_OFF = ("CrashLoopBackOff", "back-off 10s restarting failed container")
FAILED, QUIET = "True", "False"


def starting(**fields: Any) -> World:
    """A world whose first pod is there and does not answer."""
    world = World(**fields)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name, ready=False)
    return world


def pod_says(world: World, *statuses: dict[str, Any], name: str = f"{KEY.name}-0") -> float | None:
    """After a pass."""
    status = world.kube.live(POD, KEY.namespace, name)["status"]
    status["podIPs"] = [{"ip": "10.0.0.1"}]
    status["initContainerStatuses"] = [each for each in statuses if each["name"] == "fetch"]
    status["containerStatuses"] = [each for each in statuses if each["name"] == "octavo"]
    return world.reconcile()


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (("ErrImagePull", "i/o timeout"), "ImagePullFailed"),
        (("CreateContainerConfigError", 'secret "keys" not found'), "SecretNotFound"),
    ],
)
def test_what_is_tried_again_at_the_first_start_is_no_alarm_until_it_lasts(
    waiting: tuple[str, str], reason: str
) -> None:
    world = starting()
    assert pod_says(world, container(waiting=waiting)) == pytest.approx(PATIENCE_SECONDS)
    assert world.condition("Ready") == ("False", reason)
    assert world.condition("Progressing") == ("True", "Starting")
    assert world.condition("Degraded") == (QUIET, "AsExpected")
    world.seconds = PATIENCE_SECONDS
    assert world.reconcile() is None
    assert world.condition("Degraded") == (FAILED, reason)
    world.restart_operator()
    world.reconcile()
    assert world.condition("Degraded") == (FAILED, reason), "as it was told before"
    pod_says(world, container(running=True))
    assert world.condition("Degraded") == (QUIET, "AsExpected")


def test_a_download_that_broke_off_once_is_no_alarm_while_it_runs_again() -> None:
    world = starting(model={"uri": "hf://o/n"})
    pod_says(world, container("fetch", waiting=BACK_OFF, ended_before=BROKE_OFF))
    assert world.condition("Ready") == ("False", "DownloadFailed")
    assert world.condition("Degraded") == (QUIET, "AsExpected")
    world.seconds = 10
    pod_says(world, container("fetch", running=True, ended_before=BROKE_OFF))
    world.seconds = 3600
    world.reconcile()
    assert world.condition("Degraded") == (QUIET, "AsExpected")
    pod_says(world, container("fetch", waiting=BACK_OFF, ended_before=BROKE_OFF))
    assert world.condition("Degraded") == (FAILED, "DownloadFailed")
    pod_says(world, container("fetch", running=True, ended_before=BROKE_OFF))
    assert world.condition("Degraded") == (FAILED, "DownloadFailed"), "not taken back and forth"


def test_what_does_not_mend_by_itself_is_an_alarm_from_the_beginning() -> None:
    world = starting(model={"uri": "hf://o/n"})
    pod_says(world, container("fetch", waiting=BACK_OFF, ended_before=NO_MODEL))
    assert world.condition("Degraded") == (FAILED, "ModelNotFound")


def test_a_short_back_off_of_a_rollout_is_no_alarm_either() -> None:
    world = running(replicas=2)
    world.edit(engine={"maxNumSeqs": 8})
    world.reconcile()
    labels = world.deployment["spec"]["template"]["metadata"]["labels"]
    revision = labels["octavo.dev/revision"]
    new = copy.deepcopy(world.kube.live(POD, KEY.namespace, f"{KEY.name}-1"))
    new["metadata"] |= {"name": "new", "labels": labels | {"pod-template-hash": revision}}
    new["metadata"]["ownerReferences"][0]["name"] = f"{KEY.name}-{revision}"
    new["status"] = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
    world.kube.put(POD, new)
    pod_says(world, container(waiting=("ImagePullBackOff", "back-off")), name="new")
    assert world.condition("Ready") == ("False", "ImagePullFailed")
    assert world.condition("Degraded") == (QUIET, "AsExpected")
    world.seconds = PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Degraded") == (FAILED, "ImagePullFailed")
