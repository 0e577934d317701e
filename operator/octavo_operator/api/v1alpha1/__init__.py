"""LLMDeployment, version v1alpha1: what users write (`spec`) and what the operator answers (`status`).

The CRD is generated from these models. Field descriptions are what `kubectl explain` prints.
"""

from __future__ import annotations

from pydantic import Field

from octavo_operator.api.v1alpha1.auth import AuthSpec
from octavo_operator.api.v1alpha1.base import ApiModel
from octavo_operator.api.v1alpha1.engine import Device, EngineSpec
from octavo_operator.api.v1alpha1.ineffective import ineffective_fields
from octavo_operator.api.v1alpha1.model import AccessMode, ModelSpec
from octavo_operator.api.v1alpha1.pods import (
    DownloadResourcesSpec,
    ResourcesSpec,
    RolloutStrategy,
    Toleration,
)
from octavo_operator.api.v1alpha1.runtime import RuntimeSpec
from octavo_operator.api.v1alpha1.server import ServerSpec
from octavo_operator.api.v1alpha1.service import ServiceType
from octavo_operator.api.v1alpha1.source import ModelSource
from octavo_operator.api.v1alpha1.spec import LLMDeploymentSpec
from octavo_operator.api.v1alpha1.speculative import DraftSource, SpeculativeSpec
from octavo_operator.api.v1alpha1.status import LLMDeploymentStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "AccessMode",
    "AuthSpec",
    "Device",
    "DownloadResourcesSpec",
    "DraftSource",
    "EngineSpec",
    "LLMDeployment",
    "LLMDeploymentSpec",
    "LLMDeploymentStatus",
    "ModelSource",
    "ModelSpec",
    "ResourcesSpec",
    "RolloutStrategy",
    "RuntimeSpec",
    "ServerSpec",
    "ServiceType",
    "SpeculativeSpec",
    "Toleration",
    "ineffective_fields",
]

GROUP = "octavo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"


class LLMDeployment(ApiModel):
    """Serves one model with the OpenAI API, on as many pods as asked for or needed."""

    spec: LLMDeploymentSpec
    status: LLMDeploymentStatus = Field(default_factory=LLMDeploymentStatus)
