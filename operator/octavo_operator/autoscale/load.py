"""Load: how much the replicas of an LLMDeployment have to do, and the one contract by which it is learned.

A source looks at all objects at once, however many there are. It may know two things: what each pod
reports, and what waits before any pod does, at a gateway or an activator, which is all that there is
to know while no pod serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from octavo_operator.manifest import ObjectKey
from octavo_operator.replicas import Replica


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What one replica reports: requests that wait and run, and the share of its KV cache in use."""

    waiting: float
    running: float
    kv_cache_usage: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one LLMDeployment at one time."""

    replicas: Mapping[str, ReplicaLoad] = field(default_factory=dict)
    """Fresh samples by the replica's name; one that is missing was not sampled."""
    queued: float | None = None
    """Requests that wait before any replica; None where nobody knows of such a queue."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The load of everything that a source sees."""

    taken_at: float
    """Seconds on the clock of the decisions."""
    pods: Mapping[ObjectKey, ReplicaLoad] = field(default_factory=dict)
    """What each pod reports that was sampled lately."""
    queued: Mapping[ObjectKey, float] = field(default_factory=dict)
    """Requests that wait before any pod, by LLMDeployment."""
    error: str = ""
    """Why there is nothing else in here, if the source did not answer."""

    def of(self, key: ObjectKey, replicas: tuple[Replica, ...]) -> Load:
        """The load of one object with these replicas. A replica's is that of the pod that leads it."""
        leaders = {each.name: ObjectKey(key.namespace, each.leader.name) for each in replicas}
        return Load(
            {name: self.pods[pod] for name, pod in leaders.items() if pod in self.pods},
            self.queued.get(key),
        )


class LoadError(Exception):
    """A source does not answer, or not as it should; the message says which."""


class LoadSource(Protocol):
    """Where load is learned from."""

    async def snapshot(self, wall_time: float, steady_time: float) -> Snapshot:
        """The load now. Raises LoadError.

        Args:
            wall_time: Seconds since the epoch, to compare with the samples' own time.
            steady_time: Seconds on the clock of the decisions.
        """

    async def close(self) -> None:
        """Ends its connections."""
