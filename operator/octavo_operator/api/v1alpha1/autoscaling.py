"""Autoscaling. `spec.autoscaling`: replicas follow the queue."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from octavo_operator.api.quantity import Duration
from octavo_operator.api.v1alpha1.base import ApiModel, cel_between, rules


class AutoscalingSpec(ApiModel):
    """Replicas follow the queue."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                "self.maxReplicas >= self.minReplicas",
                "maxReplicas must not be smaller than minReplicas",
                "maxReplicas",
            )
        )
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="Fewest replicas."
    )
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most replicas.")
    queue_depth: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=4,
        description="Waiting sequences per replica above which replicas are added.",
    )
    scale_down_stabilization: Duration = Field(
        default="5m",
        description="How long fewer replicas must have been enough before some are removed.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> AutoscalingSpec:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"maxReplicas ({self.max_replicas}) must not be smaller than minReplicas "
                f"({self.min_replicas})"
            )
        return self
