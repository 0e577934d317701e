"""Autoscaling decision. Pure autoscaling: `(load, state, policy, now) → (decision, state)`.

Up at once, down with patience:

* Up when more requests wait than `queue_depth` for each replica that exists, started or starting.
  The wanted number is absolute, `ceil(waiting / queue_depth)`, so a backlog that is still there while
  the new pods start does not multiply them. One step at most doubles the replicas, or adds four.
* Down only when nothing waits, every replica that should answer is sampled, and what runs would fit
  fewer replicas with a margin. The number falls to the highest that was needed at any time within the
  stabilisation window, and not before a whole window was watched: after a restart of the operator,
  or after a gap in the samples, the window begins anew.
* No fresh sample at all, and no queue before the replicas that anybody knows of: hold. A question that
  Prometheus did not answer begins no window anew before it is a gap. A replica
  without a sample counts as idle for scaling up and as full for scaling down.
* The bounds of the spec hold always, and at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from octavo_operator.autoscale.load import Load, ReplicaLoad

_SLOT_MARGIN = 0.8
"""Share of a replica's slots or KV cache that may be in use after a scale-down."""
_MAX_STEP_FACTOR = 2
_MAX_STEP_REPLICAS = 4
DEFAULT_SLOTS = 256
"""`--max-num-seqs` of the runtime when the spec does not set it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The spec as the decision needs it. `slots` are requests that one replica runs at once."""

    min_replicas: int
    max_replicas: int
    queue_depth: int
    stabilization_seconds: float
    slots: int = DEFAULT_SLOTS
    gap_seconds: float = 0.0
    """Without samples for so long nobody knows any more what was needed meanwhile."""


@dataclass(frozen=True, slots=True)
class Need:
    """How many replicas were needed at one time (seconds on any steady clock)."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between decisions: the needs within the window.

    Only needs that a later one does not exceed are kept, so that the first is the highest and the
    memory stays small however often a decision is taken.
    """

    watched_since: float | None = None
    needs: tuple[Need, ...] = ()


class Basis(StrEnum):
    """Why a decision is what it is."""

    BOUNDS = "the bounds of the spec"
    BACKLOG = "requests wait"
    IDLE = "fewer replicas were enough for the whole window"
    STEADY = "as many as needed"
    COOLING = "fewer would do, but not for the whole window yet"
    BLIND = "no fresh samples"


@dataclass(frozen=True, slots=True)
class Decision:
    """The number of replicas to have, on what basis, and how many requests wait (None: unknown)."""

    replicas: int
    basis: Basis
    waiting: int | None


def decide(
    load: Load,
    serving: frozenset[str],
    current: int,
    state: State,
    policy: Policy,
    now: float,
) -> tuple[Decision, State]:
    """One decision.

    Args:
        load: What is known of it now.
        serving: Names of the replicas that should have a sample, because they answer.
        current: Replicas that are wanted now, whether they answer yet or not.
        state: From the decision before; `State()` at first.
        policy: Bounds and targets.
        now: Seconds on a steady clock.
    """
    bounded = _clamp(current, policy)
    sampled = [load.replicas[name] for name in serving if name in load.replicas]
    if not sampled and load.queued is None:
        is_gap = not state.needs or now - state.needs[-1].at >= policy.gap_seconds
        blind = Decision(bounded, _basis_of(current, bounded, Basis.BLIND), None)
        return blind, State() if is_gap else state
    waiting = math.ceil(sum(each.waiting for each in sampled) + (load.queued or 0.0))
    is_all_seen = len(sampled) == len(serving)
    need, is_backlog = _need(sampled, bounded, waiting, policy, is_all_seen=is_all_seen)
    state = _remember(state, Need(now, need), policy, now)
    if is_backlog and need > bounded:
        return Decision(need, Basis.BACKLOG, waiting), state
    if bounded != current:
        return Decision(bounded, Basis.BOUNDS, waiting), state
    highest = state.needs[0].replicas
    if highest >= current:
        basis = Basis.STEADY if need >= current else Basis.COOLING
        return Decision(current, basis, waiting), state
    if state.watched_since is None or now - state.watched_since < policy.stabilization_seconds:
        return Decision(current, Basis.COOLING, waiting), state
    return Decision(_clamp(highest, policy), Basis.IDLE, waiting), state


def _need(
    sampled: list[ReplicaLoad], current: int, waiting: int, policy: Policy, *, is_all_seen: bool
) -> tuple[int, bool]:
    """How many replicas this load needs, and whether that is because requests wait."""
    if waiting > policy.queue_depth * current:
        wanted = math.ceil(waiting / policy.queue_depth)
        step = max(current * _MAX_STEP_FACTOR, current + _MAX_STEP_REPLICAS)
        return _clamp(min(wanted, step), policy), True
    if waiting > 0 or not is_all_seen:
        return current, False
    by_slots = sum(load.running for load in sampled) / (policy.slots * _SLOT_MARGIN)
    by_cache = sum(load.kv_cache_usage for load in sampled) / _SLOT_MARGIN
    return _clamp(min(current, math.ceil(max(by_slots, by_cache))), policy), False


def _remember(state: State, need: Need, policy: Policy, now: float) -> State:
    horizon = now - policy.stabilization_seconds
    kept = tuple(
        each for each in state.needs if each.at >= horizon and each.replicas > need.replicas
    )
    since = state.watched_since if state.watched_since is not None else now
    return State(since, (*kept, need))


def _clamp(replicas: int, policy: Policy) -> int:
    return max(policy.min_replicas, min(policy.max_replicas, replicas))


def _basis_of(current: int, bounded: int, otherwise: Basis) -> Basis:
    return otherwise if current == bounded else Basis.BOUNDS
