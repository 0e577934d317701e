"""Deployment: replicas of one pod each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from octavo_operator.api.quantity import duration_seconds
from octavo_operator.findings import Finding
from octavo_operator.manifest import (
    DEPLOYMENT,
    REPLICA_SET,
    Child,
    ChildKey,
    Kind,
    Manifest,
    current_conditions,
    key_of,
)
from octavo_operator.manifest_types import (
    DeploymentSpec,
    DeploymentStrategy,
    LabelSelectorRequirement,
)
from octavo_operator.names import REVISION_LABEL, selector
from octavo_operator.pods import PodView, time_of
from octavo_operator.render import PodContext, RenderContext, Replacement
from octavo_operator.render.metadata import child
from octavo_operator.render.pod import pod_template, revision_of
from octavo_operator.replicas import Replica
from octavo_operator.workload import refused_pods, replica_sets

_KEY = ChildKey(DEPLOYMENT)
_TEMPLATE_HASH_LABEL = "pod-template-hash"
_OF_OTHERS = (
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
    "controller-revision-hash",
)
_REVISION_HISTORY = 3
_EXCEEDED_DEADLINE = "ProgressDeadlineExceeded"
_FIRST_REFUSAL = "this is what {whose} was refused for first, and may be mended"
_OLDER_CHART = "which the operator may not list, as its Role is of an older chart"


class Deployment:
    """One pod per replica; implements `Workload`."""

    @property
    def key(self) -> ChildKey:
        return _KEY

    @property
    def companions(self) -> Sequence[ChildKey]:
        return ()

    @property
    def makers(self) -> Kind:
        return REPLICA_SET

    @property
    def answering_labels(self) -> Mapping[str, str]:
        return {}

    @property
    def own_labels(self) -> Sequence[LabelSelectorRequirement]:
        """Those of a ReplicaSet have its hash, and none that the controllers of Jobs, DaemonSets and
        StatefulSets put on each pod of theirs."""
        return [
            LabelSelectorRequirement(key=_TEMPLATE_HASH_LABEL, operator="Exists"),
            *(LabelSelectorRequirement(key=each, operator="DoesNotExist") for each in _OF_OTHERS),
        ]

    def revision(self, pods: PodContext) -> str:
        return revision_of(pod_template(pods))

    def live_revision(self, live: Manifest) -> str | None:
        labels = live["spec"]["template"]["metadata"].get("labels", {})
        revision: str | None = labels.get(REVISION_LABEL)
        return revision

    def children(self, context: RenderContext) -> list[Child]:
        """`replicas` is always stated: an applied object that leaves it out would fall back to one."""
        spec: DeploymentSpec = {
            "replicas": context.replicas,
            "revisionHistoryLimit": _REVISION_HISTORY,
            "progressDeadlineSeconds": duration_seconds(context.spec.rollout.progress_deadline),
            "selector": {"matchLabels": selector(context.name)},
            "strategy": _strategy(context.replacement),
            "template": pod_template(context.pods),
        }
        if context.is_held:
            spec["paused"] = True  # replicas are counted on, pods stay
        return [child(context.owner, self.key, spec=spec)]

    def replicas(self, name: str, pods: Sequence[PodView]) -> list[Replica]:
        """Pods of ReplicaSets that the Deployment made: their names end with the template's hash."""
        return [
            Replica(pod.name, (pod,))
            for pod in pods
            if pod.controller
            == ("ReplicaSet", f"{_KEY.name_for(name)}-{pod.labels.get(_TEMPLATE_HASH_LABEL, '')}")
        ]

    def wanted(self, live: Manifest) -> int | None:
        replicas: int | None = live["spec"].get("replicas")
        return replicas

    def replacement(self, live: Manifest) -> Replacement | None:
        strategy = live["spec"].get("strategy", {})
        if strategy.get("type") == "Recreate":
            return Replacement("Recreate")
        rolling = strategy.get("rollingUpdate") or {}
        surge, unavailable = rolling.get("maxSurge"), rolling.get("maxUnavailable")
        # A share of the replicas ("25%") is not what we applied: somebody else's, or a default.
        if not isinstance(surge, int) or not isinstance(unavailable, int):
            return None
        return Replacement("RollingUpdate", surge, unavailable)

    def is_held(self, live: Manifest) -> bool:
        return bool(live["spec"].get("paused", False))

    def is_replacing(self, live: Manifest) -> bool:
        """Also by what its controller said of a former spec: until it has looked at this one, what was under
        way goes on, and nobody knows better."""
        status = live.get("status", {})
        return int(status.get("updatedReplicas", 0)) < int(status.get("replicas", 0))

    def is_refused(self, live: Manifest) -> bool:
        return replica_sets.is_refused(live)

    def refused(self, live: Manifest, makers: Sequence[Manifest] | None) -> Sequence[Manifest]:
        return replica_sets.refused(live, makers)

    def finding(
        self,
        live: Manifest,
        makers: Sequence[Manifest] | None,
        pods: Sequence[Manifest] = (),
        events: Sequence[Manifest] | None = (),
    ) -> Finding | None:
        told = replica_sets.refusal(live, makers, pods, events or ())
        if told is None:
            return None
        where = key_of(live)
        restart = f"kubectl -n {where.namespace} rollout restart deployment/{where.name}"
        pod = live["spec"].get("template", {}).get("spec", {})
        containers = [*pod.get("initContainers", ()), *pod.get("containers", ())]
        found = refused_pods.explain(told.message, told.since, restart, containers)
        if not told.is_latest:
            found = replace(found, message=f"{found.message}; {_why_first(makers, events)}")
        if replica_sets.unmade(live, makers) is not None:
            return replace(found, is_shortage=False)  # one pod less makes room for no ReplicaSet
        return found

    def unmade_since(self, live: Manifest, makers: Sequence[Manifest] | None) -> datetime | None:
        told = replica_sets.unmade(live, makers)
        return None if told is None else time_of(told)

    def given_up_since(self, live: Manifest) -> datetime | None:
        """As its Progressing condition tells."""
        for condition in current_conditions(live):
            if (condition["type"], condition.get("reason")) == ("Progressing", _EXCEEDED_DEADLINE):
                return time_of(condition)
        return None


def _why_first(makers: Sequence[Manifest] | None, events: Sequence[Manifest] | None) -> str:
    if makers is None:
        first = _FIRST_REFUSAL.format(whose="the Deployment")
        return f"{first}: its ReplicaSets say what for now, {_OLDER_CHART}"
    first = _FIRST_REFUSAL.format(whose="its controller")
    if events is None:
        return f"{first}: Events say what for now, {_OLDER_CHART}"
    return f"{first}: no Event says what for now"


def _strategy(replacement: Replacement) -> DeploymentStrategy:
    if replacement.type == "Recreate":
        return {"type": "Recreate"}
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {
            "maxSurge": replacement.max_surge,
            "maxUnavailable": replacement.max_unavailable,
        },
    }
