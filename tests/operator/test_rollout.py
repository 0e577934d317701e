from __future__ import annotations

from octavo_operator.render import Replacement
from octavo_operator.replicas import Fleet
from octavo_operator.rollout import SURGE_PATIENCE_SECONDS, patience_left, replacement
from tests.support.operator.builders import after, pod, seen, spec

NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
SURGE = Replacement("RollingUpdate", 1, 0)
IN_PLACE = Replacement("RollingUpdate", 0, 1)


def rolling(*, waiting_for_gpu: bool = True) -> Fleet:
    new = pod("new-1", unschedulable=NO_GPU if waiting_for_gpu else "")
    old = [pod(f"old-{index}", revision="old", ready=True) for index in range(2)]
    return seen([new, *old])


def decided(
    pods: Fleet,
    *,
    replicas: int = 2,
    before: Replacement | None = SURGE,
    seconds: float = 0,
    **rollout: str,
) -> Replacement:
    asked = spec(rollout=rollout, resources={"gpu": 1})
    return replacement(asked, before, pods, replicas, after(seconds))


def test_a_rollout_adds_before_it_takes_away() -> None:
    assert decided(rolling(waiting_for_gpu=False)) == SURGE


def test_it_waits_for_a_gpu_for_a_while() -> None:
    assert decided(rolling(), seconds=SURGE_PATIENCE_SECONDS - 1) == SURGE
    assert patience_left(rolling(), after(SURGE_PATIENCE_SECONDS - 1)) == 1


def test_and_then_goes_on_in_place() -> None:
    assert decided(rolling(), seconds=SURGE_PATIENCE_SECONDS) == IN_PLACE
    assert patience_left(rolling(), after(SURGE_PATIENCE_SECONDS)) is None


def test_once_in_place_it_stays_so_until_no_old_pod_is_left() -> None:
    assert decided(rolling(waiting_for_gpu=False), before=IN_PLACE) == IN_PLACE
    done = seen([pod("new-1", ready=True), pod("new-2", ready=True)])
    assert decided(done, before=IN_PLACE) == SURGE


def test_a_single_replica_is_never_stopped_for_a_pod_that_may_not_start() -> None:
    assert decided(rolling(), replicas=1, seconds=3600) == SURGE


def test_a_start_without_old_pods_is_no_rollout() -> None:
    starting = seen([pod("new-1", unschedulable=NO_GPU)])
    assert decided(starting, seconds=3600) == SURGE


def test_a_chosen_strategy_holds() -> None:
    assert decided(rolling(), seconds=3600, strategy="RollingUpdate") == SURGE
    assert decided(rolling(), strategy="Recreate") == Replacement("Recreate")


def test_another_shortage_is_not_cured_by_stopping_pods() -> None:
    short = seen(
        [pod("new-1", unschedulable="1 Insufficient cpu."), pod("old", revision="old", ready=True)]
    )
    assert decided(short, seconds=3600) == SURGE
