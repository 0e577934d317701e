"""Status. `status`: what the operator sees."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field, WithJsonSchema

from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.api.v1alpha1.base import ApiModel


class Condition(ApiModel):
    """One condition, after Kubernetes' API conventions."""

    type: ConditionType = Field(description="What is said.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Generation of the spec that this speaks about."
    )
    last_transition_time: AwareDatetime = Field(description="When `status` changed last.")
    reason: Annotated[
        Reason, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 128})
    ] = Field(description="Why, in one word; the reference lists all of them.")
    message: Annotated[str, Field(max_length=4096)] = Field(
        default="", description="Why, in a sentence."
    )


class LLMDeploymentStatus(ApiModel):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=-1)] = Field(
        default=-1,
        description="Generation of the spec that this status speaks about; -1 until the operator has seen "
        "the object.",
    )
    replicas: Annotated[int, Field(ge=0)] = Field(default=0, description="Pods that exist.")
    ready_replicas: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Pods that answer, of whatever revision."
    )
    updated_replicas: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Pods that answer and are of the current revision."
    )
    desired_replicas: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Pods wanted: spec.replicas, or what autoscaling decided."
    )
    gpus: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="GPUs (`resources.gpuResource`) that pods hold or wait for, those that are ending too.",
    )
    ready: str = Field(default="0/0", description="readyReplicas/desiredReplicas.")
    summary: str = Field(
        default="",
        description="In one word: the reason of Ready, or that of Degraded where it is Ready and something "
        "needs a person.",
    )
    queue: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Sequences that wait, over all replicas; with autoscaling only."
    )
    selector: str = Field(default="", description="Label selector of the pods.")
    revision: str = Field(default="", description="Hash of the pod template in force.")
    url: str = Field(default="", description="Base URL for OpenAI clients within the cluster.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, ModelAvailable, Progressing, Autoscaling, Degraded; and Reconciling or Stalled.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
