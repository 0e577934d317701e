"""Workloads. What keeps the pods of an LLMDeployment in numbers: one file per way to do it, under one
contract."""

from __future__ import annotations

from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.workload.base import Workload
from octavo_operator.workload.deployment import Deployment
from octavo_operator.workload.in_force import in_force

__all__ = ["WORKLOADS", "Workload", "in_force", "workload_of"]

_DEPLOYMENT = Deployment()

WORKLOADS: tuple[Workload, ...] = (_DEPLOYMENT,)
"""Every workload that an LLMDeployment may have. An object whose spec moves from one to another loses
the children of the former."""


def workload_of(spec: LLMDeploymentSpec) -> Workload:
    """The one that this spec asks for; a replica of one node is a pod of a Deployment."""
    return _DEPLOYMENT
