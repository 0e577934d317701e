"""Deployment: its pods, in numbers."""

from __future__ import annotations

from typing import Literal, NotRequired, Required, TypedDict

from octavo_operator.manifest_types.meta import LabelSelector
from octavo_operator.manifest_types.pods import PodTemplateSpec


class RollingUpdateDeployment(TypedDict):
    """Counts of pods."""

    maxSurge: int
    maxUnavailable: int


class DeploymentStrategy(TypedDict, total=False):
    """How a Deployment replaces its pods."""

    type: Required[Literal["RollingUpdate", "Recreate"]]
    rollingUpdate: RollingUpdateDeployment


class DeploymentSpec(TypedDict):
    """Pods of one template, in numbers."""

    replicas: int
    revisionHistoryLimit: int
    progressDeadlineSeconds: int
    selector: LabelSelector
    strategy: DeploymentStrategy
    template: PodTemplateSpec
    paused: NotRequired[bool]
