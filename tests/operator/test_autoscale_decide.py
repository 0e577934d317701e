from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.autoscale.decide import Basis, Decision, Policy, State, decide
from octavo_operator.autoscale.load import Load, ReplicaLoad

POLICY = Policy(min_replicas=1, max_replicas=10, queue_depth=4, stabilization_seconds=300, slots=10)


def replicas(count: int) -> frozenset[str]:
    return frozenset(f"replica-{index}" for index in range(count))


def spread(waiting: float, running: float, count: int, kv: float = 0.0) -> Load:
    share = ReplicaLoad(waiting / count, running / count, kv)
    return Load(dict.fromkeys(replicas(count), share))


def decided(
    waiting: float = 0,
    running: float = 0,
    *,
    current: int = 1,
    serving: int | None = None,
    policy: Policy = POLICY,
    state: State | None = None,
    now: float = 0.0,
    kv: float = 0.0,
) -> tuple[Decision, State]:
    count = current if serving is None else serving
    return decide(
        spread(waiting, running, count, kv) if count else Load(),
        replicas(count),
        current,
        state or State(),
        policy,
        now,
    )


def over(seconds: float, *, current: int, running: float = 0, kv: float = 0.0) -> int:
    """The replicas after a constant load without a queue, decided every 5 s."""
    state, now = State(), 0.0
    while now <= seconds:
        decision, state = decided(running=running, current=current, state=state, now=now, kv=kv)
        current = decision.replicas
        now += 5
    return current


def test_a_queue_within_the_target_changes_nothing() -> None:
    decision, _ = decided(waiting=8, current=2)
    assert (decision.replicas, decision.basis, decision.waiting) == (2, Basis.STEADY, 8)


def test_a_backlog_asks_for_enough_replicas_at_once() -> None:
    decision, _ = decided(waiting=17, current=2)
    assert (decision.replicas, decision.basis) == (5, Basis.BACKLOG)


def test_a_backlog_that_stays_while_pods_start_does_not_multiply() -> None:
    decision, _ = decided(waiting=17, current=5, serving=2)
    assert decision.replicas == 5


def test_one_step_is_bounded() -> None:
    policy = replace(POLICY, max_replicas=100)
    assert decided(waiting=4000, current=1, policy=policy)[0].replicas == 5
    assert decided(waiting=4000, current=20, policy=policy)[0].replicas == 40


def test_nothing_shrinks_before_the_whole_window_was_watched() -> None:
    assert over(295, current=5) == 5
    assert over(300, current=5) == 1


def test_a_short_burst_renews_the_window() -> None:
    _, state = decided(current=5, now=0)
    _, state = decided(waiting=21, current=5, state=state, now=250)
    decision, state = decided(current=6, state=state, now=500)
    assert (decision.replicas, decision.basis) == (6, Basis.COOLING)
    assert decided(current=6, state=state, now=551)[0].replicas == 1


def test_what_runs_must_fit_with_a_margin() -> None:
    assert over(400, current=5, running=16) == 2  # 16 requests in 2 × 10 × 0.8 slots
    assert over(400, current=5, running=17) == 3


def test_the_kv_cache_must_fit_too() -> None:
    assert over(400, current=4, running=1, kv=0.5) == 3  # 4 × 0.5 / 0.8


def test_a_waiting_request_prevents_shrinking() -> None:
    state, now = State(), 0.0
    while now < 1000:
        decision, state = decided(waiting=1, current=3, state=state, now=now)
        assert decision.replicas == 3
        now += 5


def test_a_replica_without_a_sample_prevents_shrinking() -> None:
    state = State()
    for now in range(0, 1000, 5):
        decision, state = decide(spread(0, 0, 2), replicas(3), 3, state, POLICY, float(now))
        assert decision.replicas == 3


def test_without_any_sample_it_holds_and_forgets_the_window() -> None:
    _, state = decided(current=5, now=0)
    decision, state = decide(Load(), replicas(5), 5, state, POLICY, 299.0)
    assert (decision.replicas, decision.basis, decision.waiting) == (5, Basis.BLIND, None)
    assert decided(current=5, state=state, now=301)[0].replicas == 5


def test_samples_of_replicas_that_do_not_serve_do_not_count() -> None:
    decision, _ = decide(spread(100, 0, 2), frozenset({"other"}), 2, State(), POLICY, 0.0)
    assert decision.basis is Basis.BLIND


@pytest.mark.parametrize(("current", "replicas"), [(0, 1), (12, 10)])
def test_the_bounds_hold_even_without_samples(current: int, replicas: int) -> None:
    decision, _ = decide(Load(), frozenset(), current, State(), POLICY, 0.0)
    assert (decision.replicas, decision.basis) == (replicas, Basis.BOUNDS)


FROM_ZERO = replace(POLICY, min_replicas=0)


def test_a_load_that_waits_before_any_replica_wakes_one_from_zero() -> None:
    """Where nothing serves, nothing is sampled: the queue before the replicas is all that is known."""
    decision, _ = decide(Load(queued=1), frozenset(), 0, State(), FROM_ZERO, 0.0)
    assert (decision.replicas, decision.basis, decision.waiting) == (1, Basis.BACKLOG, 1)
    many, _ = decide(Load(queued=9), frozenset(), 0, State(), FROM_ZERO, 0.0)
    assert many.replicas == 3


def test_an_empty_queue_before_no_replica_wakes_none_and_is_not_blindness() -> None:
    decision, _ = decide(Load(queued=0), frozenset(), 0, State(), FROM_ZERO, 0.0)
    assert (decision.replicas, decision.basis, decision.waiting) == (0, Basis.STEADY, 0)
    blind, _ = decide(Load(), frozenset(), 0, State(), FROM_ZERO, 0.0)
    assert (blind.replicas, blind.basis, blind.waiting) == (0, Basis.BLIND, None)


def test_what_waits_before_the_replicas_adds_to_what_waits_in_them() -> None:
    load = replace(spread(5, 0, 2), queued=12)
    decision, _ = decide(load, replicas(2), 2, State(), POLICY, 0.0)
    assert (decision.replicas, decision.waiting) == (5, 17)


policies = st.builds(
    lambda low, span, depth, window, slots: Policy(low, low + span, depth, window, slots),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(1, 10),
    st.floats(0, 600),
    st.integers(1, 64),
)
loads = st.builds(ReplicaLoad, st.floats(0, 1000), st.floats(0, 100), st.floats(0, 1))
passes = st.lists(
    st.tuples(st.lists(loads, max_size=8), st.integers(0, 8), st.floats(0.1, 60)), max_size=30
)


@given(policies, passes, st.integers(0, 30))
def test_whatever_happens_the_bounds_hold(
    policy: Policy, history: list[tuple[list[ReplicaLoad], int, float]], current: int
) -> None:
    state, now = State(), 0.0
    for sampled, serving, pause in history:
        now += pause
        named = {f"replica-{index}": load for index, load in enumerate(sampled)}
        decision, state = decide(Load(named), replicas(serving), current, state, policy, now)
        assert policy.min_replicas <= decision.replicas <= policy.max_replicas
        assert len(state.needs) <= policy.max_replicas + 1
        current = decision.replicas


@given(policies, st.floats(0, 500), st.floats(0, 500), st.integers(1, 20))
def test_more_waiting_requests_never_mean_fewer_replicas(
    policy: Policy, waiting: float, more: float, current: int
) -> None:
    less_load = decided(waiting, current=current, policy=policy)[0]
    more_load = decided(waiting + more, current=current, policy=policy)[0]
    assert more_load.replicas >= less_load.replicas


@given(policies, st.floats(0, 200), st.integers(1, 25), st.floats(0, 2000))
def test_replicas_fall_only_after_a_whole_window(
    policy: Policy, running: float, current: int, now: float
) -> None:
    """From any start, the first decision never takes away a replica that the bounds allow."""
    decision, state = decided(running=running, current=current, policy=policy, now=now)
    bounded = max(policy.min_replicas, min(policy.max_replicas, current))
    if policy.stabilization_seconds > 0:
        assert decision.replicas >= bounded
    _, state = decided(running=running, current=bounded, policy=policy, now=now, state=state)
    early = now + policy.stabilization_seconds * 0.99
    if early - now < policy.stabilization_seconds:
        again, _ = decided(running=running, current=bounded, policy=policy, now=early, state=state)
        assert again.replicas == bounded


@given(policies, st.floats(0, 300), st.integers(1, 25))
def test_a_constant_load_without_a_queue_settles_and_never_rises(
    policy: Policy, running: float, current: int
) -> None:
    state, now, seen = State(), 0.0, [current]
    while now <= 2 * policy.stabilization_seconds + 60:
        decision, state = decided(
            running=running, current=seen[-1], policy=policy, now=now, state=state
        )
        seen.append(decision.replicas)
        now += 15
    after_bounds = seen[1:]
    assert after_bounds == sorted(after_bounds, reverse=True)
    assert seen[-1] == seen[-2]
