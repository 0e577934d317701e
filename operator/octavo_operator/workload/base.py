"""Workload. What a workload is: the contract between reconcile and whatever keeps the pods of a replica.

A Deployment makes every replica of one pod. A group of pods per replica (a StatefulSet or a
LeaderWorkerSet for models of several nodes) is another implementation: its own file here, entered in
`WORKLOADS`. Every method is pure; `live` is the workload's object as the API server holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from octavo_operator.findings import Finding
from octavo_operator.manifest import Child, ChildKey, Kind, Manifest
from octavo_operator.manifest_types import LabelSelectorRequirement
from octavo_operator.pods import PodView
from octavo_operator.render import PodContext, RenderContext, Replacement
from octavo_operator.replicas import Replica


class Workload(Protocol):
    """Keeps a number of replicas of the pods that a `PodContext` describes."""

    @property
    def key(self) -> ChildKey:
        """The child that keeps the pods, and that `live` is."""

    @property
    def companions(self) -> Sequence[ChildKey]:
        """Other children that it needs, such as a headless Service; applied before it."""

    @property
    def makers(self) -> Kind:
        """What makes the pods in its name, and is told why it may not."""

    @property
    def answering_labels(self) -> Mapping[str, str]:
        """Labels that only those pods have which answer requests; empty when all do."""

    @property
    def own_labels(self) -> Sequence[LabelSelectorRequirement]:
        """What tells its pods from those of other controllers that have all of a model's labels, as far as
        labels can."""

    def revision(self, pods: PodContext) -> str:
        """The hash of everything in the pods, as `names.REVISION_LABEL` tells it on each of them."""

    def live_revision(self, live: Manifest) -> str | None:
        """The revision that the live object gives its pods; None when it does not say."""

    def children(self, context: RenderContext) -> list[Child]:
        """The companions and the workload itself, in the order in which they are to be applied."""

    def replicas(self, name: str, pods: Sequence[PodView]) -> list[Replica]:
        """How pods make replicas of the LLMDeployment `name`. `pods` have its label, which anybody may
        set, and are in the order of their names; those that this workload did not make do not count."""

    def wanted(self, live: Manifest) -> int | None:
        """The number of replicas that the live object asks for; None when it does not say."""

    def replacement(self, live: Manifest) -> Replacement | None:
        """How the live object replaces replicas; None when it does not say."""

    def is_held(self, live: Manifest) -> bool:
        """Whether it makes no pods of a new revision for now."""

    def is_replacing(self, live: Manifest) -> bool:
        """Whether it is about to replace pods by others, of whatever revision: after `kubectl rollout
        restart` they are of the same."""

    def is_refused(self, live: Manifest) -> bool:
        """Whether it says that pods are refused, so that its makers are to be asked for which and why."""

    def refused(self, live: Manifest, makers: Sequence[Manifest] | None) -> Sequence[Manifest]:
        """Which of them and itself say that something is refused, so that their Events tell what for now."""

    def finding(
        self,
        live: Manifest,
        makers: Sequence[Manifest] | None,
        pods: Sequence[Manifest] = (),
        events: Sequence[Manifest] | None = (),
    ) -> Finding | None:
        """Why it cannot even create its pods.

        Args:
            makers: Those with the labels of its pods, where it is refused; None where they may not be read.
            pods: Those that are there.
            events: Of what is `refused`; None where they may not be read.
        """

    def unmade_since(self, live: Manifest, makers: Sequence[Manifest] | None) -> datetime | None:
        """Since when what makes its pods cannot be made itself, which Kubernetes never gives up."""

    def given_up_since(self, live: Manifest) -> datetime | None:
        """Since when it says that a rollout went on without progress for the deadline that it had; None while
        it does not."""
