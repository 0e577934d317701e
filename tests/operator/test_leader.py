from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from octavo_operator.kube import KubeError
from octavo_operator.leader import Candidate, LeaderElection, LeaseTimes
from octavo_operator.manifest import LEASE, ObjectKey
from tests.support.operator.fake_kube import FakeKube

KEY = ObjectKey("octavo-system", "octavo-operator")
_LOOK = ("get", LEASE.kind, KEY.name)
TIMES = LeaseTimes(duration=15, renew_deadline=10, retry_period=0.01)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def candidate(kube: FakeKube, identity: str, clock: Clock) -> LeaderElection:
    return LeaderElection(kube, KEY, Candidate(identity, f"uid-of-{identity}"), TIMES, clock)


def holder(kube: FakeKube) -> str:
    identity: str = kube.live(LEASE, KEY.namespace, KEY.name)["spec"]["holderIdentity"]
    return identity


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def looked(kube: FakeKube) -> None:
    """Returns when whoever uses `kube` has looked at the lease once more, and done what follows."""
    num_looks = kube.requests.count(_LOOK)
    await until(lambda: kube.requests.count(_LOOK) > num_looks)


def with_own_eyes(kube: FakeKube) -> FakeKube:
    """The same objects; who asks by it is told apart."""
    other = copy.copy(kube)
    other.requests = []
    return other


def test_one_of_two_leads_until_the_lease_runs_out() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        await candidate(kube, "a", clock).acquire()
        waiting = asyncio.create_task(candidate(kube, "b", clock).acquire())
        await looked(kube)
        clock.seconds += TIMES.duration - 1
        await looked(kube)
        assert not waiting.done()
        assert holder(kube) == "a"
        clock.seconds += 2
        await waiting
        assert holder(kube) == "b"
        assert kube.live(LEASE, KEY.namespace, KEY.name)["spec"]["leaseTransitions"] == 1

    run(scenario)


def test_a_candidate_looks_again_at_the_moment_when_the_holder_s_time_is_over() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        await candidate(kube, "a", clock).acquire()
        waiting = LeaderElection(kube, KEY, Candidate("b"), LeaseTimes.of(15), clock)
        assert not await waiting._try()
        assert 2 <= waiting._pause() <= 2.4
        clock.seconds += 14.5
        assert not await waiting._try()
        assert waiting._pause() == 0.5
        clock.seconds += 0.5
        assert await waiting._try()

    run(scenario)


def test_a_holder_that_renews_keeps_the_lease() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        others = with_own_eyes(kube)
        first = candidate(kube, "a", clock)
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        waiting = asyncio.create_task(candidate(others, "b", clock).acquire())
        for _ in range(10):
            await looked(kube)
            await looked(others)
            clock.seconds += 8
        assert not waiting.done()
        assert not holding.done()
        for task in (holding, waiting):
            task.cancel()

    run(scenario)


def test_a_holder_that_cannot_renew_stops_before_another_may_start() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        await first.acquire()
        kube.fault = lambda _verb, _kind, _name: KubeError(0, "Unreachable", "no route")
        holding = asyncio.create_task(first.hold())
        await looked(kube)
        await looked(kube)
        assert not holding.done()
        clock.seconds += TIMES.renew_deadline
        await holding
        assert TIMES.renew_deadline < TIMES.duration

    run(scenario)


def test_a_holder_that_lost_the_lease_to_another_stops() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        await first.acquire()
        lease = kube.live(LEASE, KEY.namespace, KEY.name)
        kube.put(LEASE, {**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
        await first.hold()

    run(scenario)


def test_a_released_lease_is_taken_at_once() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        await first.acquire()
        await first.release()
        await candidate(kube, "b", clock).acquire()
        assert holder(kube) == "b"
        await first.release()
        assert holder(kube) == "b"

    run(scenario)


def test_of_two_that_start_together_one_wins() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        tasks = [asyncio.create_task(candidate(kube, each, clock).acquire()) for each in "ab"]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(3):
            await looked(kube)
        assert [task.done() for task in tasks].count(True) == 1
        for task in tasks:
            task.cancel()

    run(scenario)


def test_the_lease_belongs_to_the_pod_that_holds_it_and_goes_with_it() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        await first.acquire()
        lease = kube.live(LEASE, KEY.namespace, KEY.name)
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "uid-of-a"}
        assert lease["metadata"]["ownerReferences"] == [owner]
        await first.release()
        await candidate(kube, "b", clock).acquire()
        (taken,) = kube.live(LEASE, KEY.namespace, KEY.name)["metadata"]["ownerReferences"]
        assert (taken["name"], taken["uid"]) == ("b", "uid-of-b")

    run(scenario)


def test_a_candidate_that_is_no_pod_leaves_the_lease_to_nobody() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        await first.acquire()
        await first.release()
        await LeaderElection(kube, KEY, Candidate("laptop"), TIMES, clock).acquire()
        assert kube.live(LEASE, KEY.namespace, KEY.name)["metadata"]["ownerReferences"] == []

    run(scenario)


def test_a_conflict_that_comes_again_is_a_webhook_s_and_told() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        first = candidate(kube, "a", clock)
        conflict = KubeError(409, "Conflict", "admission webhook denied the request")
        kube.fault = lambda verb, _kind, _name: conflict if verb == "create" else None
        with structlog.testing.capture_logs() as told:
            assert not await first._try()
            assert told == []
            assert not await first._try()
        assert [each["error"] for each in told] == [str(conflict)]
        assert "has not been seen yet" in (first.problem() or "")
        kube.fault = lambda _verb, _kind, _name: None
        assert await first._try()
        assert first.problem() is None

    run(scenario)


def test_a_holder_with_another_duration_is_waited_for_as_it_says() -> None:
    """During an upgrade that changes the duration, the two renew at different times."""

    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        await LeaderElection(
            kube, KEY, Candidate("slow"), LeaseTimes(300, 200, 40), clock
        ).acquire()
        waiting = asyncio.create_task(candidate(kube, "b", clock).acquire())
        await looked(kube)
        clock.seconds += 299
        await looked(kube)
        assert not waiting.done()
        clock.seconds += 2
        await waiting
        assert holder(kube) == "b"

    run(scenario)


def test_who_holds_the_lease_and_for_how_long_is_told_once() -> None:
    """A duration that nobody meant keeps all others waiting, who look well."""

    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        await LeaderElection(
            kube, KEY, Candidate("slow"), LeaseTimes(86400, 200, 40), clock
        ).acquire()
        with structlog.testing.capture_logs() as told:
            waiting = candidate(kube, "b", clock)
            assert not await waiting._try()
            assert not await waiting._try()
        (said,) = told
        assert (said["holder"], said["duration_seconds"]) == ("slow", 86400)

    run(scenario)


def test_a_lease_of_which_nothing_is_said_is_taken() -> None:
    async def scenario() -> None:
        kube, clock = FakeKube(), Clock()
        await candidate(kube, "a", clock).acquire()
        del kube.live(LEASE, KEY.namespace, KEY.name)["spec"]
        await candidate(kube, "b", clock).acquire()
        assert holder(kube) == "b"

    run(scenario)
