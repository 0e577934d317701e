"""The policy in a closed loop: what a burst, a plateau and a wave do to the replicas."""

from __future__ import annotations

import pytest

from octavo_operator.autoscale.decide import Policy
from tests.support.operator.autoscale_simulation import Fleet, Step, simulate

FLEET = Fleet(slots=8, service_seconds=4, startup_seconds=20)  # one replica serves 2 requests/s
POLICY = Policy(
    min_replicas=1, max_replicas=8, queue_depth=4, stabilization_seconds=120, slots=FLEET.slots
)


def changes(steps: list[Step]) -> list[int]:
    found = [steps[0].replicas]
    for step in steps:
        if step.replicas != found[-1]:
            found.append(step.replicas)
    return found


def test_a_burst_is_answered_within_one_pass_and_given_back_after_the_window() -> None:
    steps = simulate(lambda now: 6.0 if 60 <= now < 180 else 0.0, POLICY, FLEET, 600)
    first_up = next(step for step in steps if step.replicas > 1)
    assert first_up.at <= 60 + 15
    last_queue = max(step.at for step in steps if step.waiting)
    first_down = next(
        step
        for step, before in zip(steps[1:], steps, strict=False)
        if step.replicas < before.replicas
    )
    assert first_down.at >= last_queue + POLICY.stabilization_seconds
    assert steps[-1].replicas == 1
    assert steps[-1].waiting == 0


@pytest.mark.parametrize("rate", [0.5, 1.5, 3.0, 6.0, 9.0])
def test_a_constant_load_settles_without_flapping(rate: float) -> None:
    steps = simulate(lambda _: rate, POLICY, FLEET, 1800)
    late = [step.replicas for step in steps if step.at > 900]
    assert len(set(late)) == 1, changes(steps)
    assert steps[-1].waiting <= POLICY.queue_depth * steps[-1].replicas


def test_a_wave_shorter_than_the_window_is_ridden_out() -> None:
    steps = simulate(lambda now: 8.0 if now % 60 < 30 else 1.0, POLICY, FLEET, 1800)
    late = [step.replicas for step in steps if step.at > 600]
    assert len(set(late)) == 1, changes(steps)


def test_a_load_beyond_the_maximum_stays_at_the_maximum() -> None:
    steps = simulate(lambda _: 50.0, POLICY, FLEET, 300)
    assert max(step.replicas for step in steps) == POLICY.max_replicas
    assert steps[-1].replicas == POLICY.max_replicas
