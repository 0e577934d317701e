"""Specification. `spec`: what the user wants.

Only what the runtime can do has a field, and what has none goes by `extraArgs`: nothing in a spec is ever
silently ignored, except `replicas` beside `autoscaling`, which the description of `replicas` says.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from octavo_operator.api.v1alpha1.auth import AuthSpec
from octavo_operator.api.v1alpha1.autoscaling import AutoscalingSpec
from octavo_operator.api.v1alpha1.base import ApiModel, rules
from octavo_operator.api.v1alpha1.combinations import COMBINATIONS
from octavo_operator.api.v1alpha1.engine import (
    ENGINE_BUDGET,
    LIMITS_OF_ADAPTERS,
    RANDOM_WEIGHTS_ARE_OF_NO_CHECKPOINT,
    EngineSpec,
)
from octavo_operator.api.v1alpha1.extra_args import MOST as MOST_EXTRA_ARGS
from octavo_operator.api.v1alpha1.extra_args import Argument
from octavo_operator.api.v1alpha1.model import ModelSpec
from octavo_operator.api.v1alpha1.pods import (
    PodsSpec,
    ResourcesSpec,
    RolloutSpec,
    SchedulingSpec,
)
from octavo_operator.api.v1alpha1.runtime import RuntimeSpec
from octavo_operator.api.v1alpha1.server import ServerSpec
from octavo_operator.api.v1alpha1.service import (
    NO_OPEN_DOOR,
    NO_OPEN_DOOR_HELP,
    ServiceSpec,
    ServiceType,
)
from octavo_operator.api.v1alpha1.source import ModelSource
from octavo_operator.api.v1alpha1.speculative import DraftSource


class LLMDeploymentSpec(ApiModel):
    """What the user wants."""

    model_config = ConfigDict(json_schema_extra=rules(NO_OPEN_DOOR, *COMBINATIONS))

    model: ModelSpec = Field(description="The model.")
    engine: EngineSpec = Field(
        default_factory=EngineSpec,
        description="Flags of `octavo serve` in camelCase.",
        json_schema_extra=rules(
            ENGINE_BUDGET, RANDOM_WEIGHTS_ARE_OF_NO_CHECKPOINT, *LIMITS_OF_ADAPTERS
        ),
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Fixed number of replicas. With `autoscaling` this field, and with it "
        "`kubectl scale`, has no effect.",
    )
    autoscaling: AutoscalingSpec | None = Field(
        default=None, description="Lets the number of replicas follow the queue."
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec, description="What one replica asks of its node."
    )
    scheduling: SchedulingSpec = Field(
        default_factory=SchedulingSpec, description="Where the pods may run."
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How changes reach the pods."
    )
    pods: PodsSpec = Field(
        default_factory=PodsSpec,
        description="What a namespace's rules, bills and registries want on the pods.",
    )
    auth: AuthSpec | None = Field(
        default=None,
        description="Who may use the OpenAI port; open within the cluster when absent.",
    )
    runtime: RuntimeSpec = Field(
        default_factory=RuntimeSpec,
        description="The image that the pods run; the installation's when absent.",
    )
    service: ServiceSpec = Field(
        default_factory=ServiceSpec, description="The Service of the OpenAI port."
    )
    server: ServerSpec = Field(
        default_factory=ServerSpec,
        description="More flags of `octavo serve`: who may ask from a browser, by which name, and what a "
        "scrape finds.",
    )
    extra_args: Annotated[tuple[Argument, ...], Field(max_length=MOST_EXTRA_ARGS)] | None = Field(
        default=None,
        description="Flags of `octavo serve` that no field is for, each as --flag or --flag=value. What a "
        "field or the operator sets is refused; what the runtime does not take is told by `Ready`.",
    )

    @property
    def draft(self) -> DraftSource | None:
        """Where the draft model or head comes from, if there is one."""
        speculative = self.engine.speculative_config
        return None if speculative is None else speculative.model

    @property
    def sources(self) -> tuple[ModelSource, ...]:
        """Of everything that a pod loads: the model, and what guesses for it."""
        return (self.model,) if self.draft is None else (self.model, self.draft)

    @property
    def has_downloads(self) -> bool:
        """Whether a download precedes serving."""
        return any(each.is_downloaded for each in self.sources)

    @property
    def claims(self) -> tuple[str, ...]:
        """The claims of the user's that the pods mount, each once."""
        return tuple(dict.fromkeys(each.claim for each in self.sources if each.claim))

    @model_validator(mode="after")
    def _no_open_door(self) -> LLMDeploymentSpec:
        if self.service.type is not ServiceType.CLUSTER_IP and self.auth is None:
            raise ValueError(NO_OPEN_DOOR_HELP)
        return self
