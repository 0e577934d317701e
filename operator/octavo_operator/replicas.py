"""Replicas: the copies of a model that answer requests, each of one pod or of a group of pods. Pure.

Status, rollout and autoscaling count replicas. Which pods make one is the workload's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from octavo_operator.findings import Finding
from octavo_operator.pods import SETUP_PATIENCE_SECONDS, PodView, gravest


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of the model.

    Attributes:
        name: Its own among the replicas of its LLMDeployment.
        pods: Those that exist, at least one; the first leads: it is the one that answers requests.
        size: How many pods make it whole.
    """

    name: str
    pods: tuple[PodView, ...]
    size: int = 1

    @property
    def leader(self) -> PodView:
        return self.pods[0]

    @property
    def revision(self) -> str:
        """That of its pods; empty while they differ, which no revision is."""
        revisions = {pod.revision for pod in self.pods}
        return self.leader.revision if len(revisions) == 1 else ""

    @property
    def is_ready(self) -> bool:
        """Whether it answers: a model whose parts are not all there answers nothing."""
        return len(self.pods) >= self.size and all(pod.is_ready for pod in self.pods)

    @property
    def ready_since(self) -> datetime | None:
        """Since when all of it is ready; None while it is not, or where a pod does not say."""
        times = [pod.ready_since for pod in self.pods]
        known = [each for each in times if each is not None]
        return max(known) if self.is_ready and len(known) == len(times) else None

    def finding(self) -> Finding | None:
        """The gravest finding among its pods."""
        return gravest(pod.finding for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All replicas of one LLMDeployment, of whatever revision, in the order of their names."""

    revision: str
    """The one in force."""
    replicas: tuple[Replica, ...]

    @property
    def ready(self) -> tuple[Replica, ...]:
        """Replicas that answer, of whatever revision."""
        return tuple(each for each in self.replicas if each.is_ready)

    @property
    def current(self) -> tuple[Replica, ...]:
        """Replicas of the revision in force."""
        return tuple(each for each in self.replicas if each.revision == self.revision)

    @property
    def ready_current(self) -> tuple[Replica, ...]:
        """Replicas that answer and are of the revision in force."""
        return tuple(each for each in self.current if each.is_ready)

    @property
    def current_pods(self) -> tuple[PodView, ...]:
        """The pods of the revision in force."""
        return tuple(pod for each in self.current for pod in each.pods)

    def finding(self) -> Finding | None:
        """The gravest finding among the replicas of the revision in force."""
        return gravest(each.finding() for each in self.current)

    def phase_text(self) -> str:
        """What the pods of the revision in force are doing while they are not ready."""
        waiting = [pod for pod in self.current_pods if not pod.is_ready]
        texts = sorted({pod.progress or pod.phase_text for pod in waiting})
        return ", ".join(texts) if texts else "waiting for pods to be created"

    def progress_texts(self) -> list[str]:
        """What those pods told of it."""
        return sorted({pod.progress for pod in self.current_pods if pod.progress})

    def with_pods(self, change: Callable[[PodView], PodView]) -> Fleet:
        """The same replicas with pods that were changed."""
        replicas = (
            replace(each, pods=tuple(change(pod) for pod in each.pods)) for each in self.replicas
        )
        return replace(self, replicas=tuple(replicas))


def fleet(revision: str, replicas: Iterable[Replica]) -> Fleet:
    """The replicas in the order of their names."""
    return Fleet(revision, tuple(sorted(replicas, key=lambda each: each.name)))


def setup_patience_left(seen: Fleet, now: datetime) -> float | None:
    """Seconds until a pod that is being set up should be looked at again: no event will tell that it
    takes too long. None when there is none, or when it has been said."""
    left = [
        SETUP_PATIENCE_SECONDS - (now - pod.setup_since).total_seconds()
        for pod in seen.current_pods
        if pod.setup_since is not None
    ]
    return min((seconds for seconds in left if seconds > 0), default=None)
