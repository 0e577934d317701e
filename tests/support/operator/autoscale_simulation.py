"""Autoscaling as a closed loop in simulated time: requests arrive, replicas serve, `decide` scales.

It exists to show how a policy behaves before a cluster does: whether it settles, how long a burst
waits, whether it flaps. Replicas take `startup_seconds` to answer, samples are `scrape_seconds` old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from octavo_operator.autoscale.decide import Basis, Decision, Policy, State, decide
from octavo_operator.autoscale.load import Load, ReplicaLoad


@dataclass(frozen=True, slots=True)
class Fleet:
    """How one simulated replica serves: `slots` requests at once, each for `service_seconds`."""

    slots: int = 8
    service_seconds: float = 4.0
    startup_seconds: float = 20.0
    scrape_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """One moment of a simulation."""

    at: float
    replicas: int
    waiting: int
    running: int
    basis: Basis


@dataclass(slots=True)
class _World:
    fleet: Fleet
    waiting: int = 0
    arrival_debt: float = 0.0
    finish_times: deque[float] = field(default_factory=deque)
    start_times: list[float] = field(default_factory=list)

    def ready(self, now: float) -> int:
        return sum(start + self.fleet.startup_seconds <= now for start in self.start_times)

    def advance(self, now: float, arrivals: float) -> None:
        while self.finish_times and self.finish_times[0] <= now:
            self.finish_times.popleft()
        self.arrival_debt += arrivals
        self.waiting += int(self.arrival_debt)
        self.arrival_debt -= int(self.arrival_debt)
        free = self.ready(now) * self.fleet.slots - len(self.finish_times)
        for _ in range(min(self.waiting, max(0, free))):
            self.waiting -= 1
            self.finish_times.append(now + self.fleet.service_seconds)

    def scale(self, replicas: int, now: float) -> None:
        while len(self.start_times) < replicas:
            self.start_times.append(now)
        # Kubernetes takes away pods that do not answer yet before those that do.
        self.start_times = sorted(self.start_times)[:replicas]

    def loads(self, now: float) -> dict[str, ReplicaLoad]:
        ready = self.ready(now)
        if not ready:
            return {}
        share = ReplicaLoad(
            self.waiting / ready,
            len(self.finish_times) / ready,
            min(1.0, len(self.finish_times) / (ready * self.fleet.slots)),
        )
        return {f"replica-{index}": share for index in range(ready)}


def simulate(
    arrivals_per_second: Callable[[float], float],
    policy: Policy,
    fleet: Fleet,
    seconds: float,
    *,
    decide_every_seconds: float = 5.0,
) -> list[Step]:
    """Runs from `min_replicas` ready replicas and returns one step per decision."""
    world = _World(fleet, start_times=[-fleet.startup_seconds] * policy.min_replicas)
    replicas, state = policy.min_replicas, State()
    samples: deque[tuple[float, dict[str, ReplicaLoad]]] = deque()
    steps: list[Step] = []
    now = 0.0
    while now < seconds:
        now += 1.0
        world.advance(now, arrivals_per_second(now))
        samples.append((now, world.loads(now)))
        if now % decide_every_seconds:
            continue
        while len(samples) > 1 and samples[1][0] <= now - fleet.scrape_seconds:
            samples.popleft()
        loads = samples[0][1]
        serving = frozenset(f"replica-{index}" for index in range(world.ready(now)))
        decision, state = decide(Load(loads), serving, replicas, state, policy, now)
        replicas = _applied(world, decision, now)
        steps.append(Step(now, replicas, world.waiting, len(world.finish_times), decision.basis))
    return steps


def _applied(world: _World, decision: Decision, now: float) -> int:
    world.scale(decision.replicas, now)
    return decision.replicas
