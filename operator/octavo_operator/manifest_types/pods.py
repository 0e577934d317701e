"""Pods: what a workload is made of, and where they are placed."""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypedDict

from octavo_operator.manifest_types.containers import Container
from octavo_operator.manifest_types.meta import LabelSelector, LocalObjectReference, ObjectMeta
from octavo_operator.manifest_types.volumes import Volume


class PodTemplateSpec(TypedDict):
    """What pods are made from."""

    metadata: ObjectMeta
    spec: PodSpec


class PodSpec(TypedDict, total=False):
    """One pod."""

    serviceAccountName: str
    automountServiceAccountToken: bool
    enableServiceLinks: bool
    shareProcessNamespace: bool
    securityContext: PodSecurityContext
    terminationGracePeriodSeconds: int
    containers: Required[list[Container]]
    volumes: list[Volume]
    topologySpreadConstraints: list[TopologySpreadConstraint]
    initContainers: list[Container]
    imagePullSecrets: list[LocalObjectReference]
    affinity: Affinity
    nodeSelector: dict[str, str]
    tolerations: list[Toleration]
    runtimeClassName: str
    priorityClassName: str


class SeccompProfile(TypedDict):
    """Which system calls are refused."""

    type: Literal["RuntimeDefault"]


class PodSecurityContext(TypedDict):
    """Who the pod's processes are."""

    runAsNonRoot: bool
    runAsUser: NotRequired[int]
    runAsGroup: NotRequired[int]
    fsGroup: NotRequired[int]
    fsGroupChangePolicy: Literal["OnRootMismatch", "Always"]
    seccompProfile: SeccompProfile


class TopologySpreadConstraint(TypedDict):
    """How far apart pods are placed."""

    maxSkew: int
    topologyKey: str
    whenUnsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"]
    labelSelector: LabelSelector


class PodAffinityTerm(TypedDict):
    """Pods that this one must be near."""

    topologyKey: str
    labelSelector: LabelSelector


class PodAffinity(TypedDict):
    """Pods that this one must be near, as a condition of placing it."""

    requiredDuringSchedulingIgnoredDuringExecution: list[PodAffinityTerm]


class Affinity(TypedDict):
    """What a pod is drawn to."""

    podAffinity: PodAffinity


class Toleration(TypedDict, total=False):
    """A taint that a pod tolerates."""

    key: str
    operator: str
    value: str
    effect: str
    tolerationSeconds: int
