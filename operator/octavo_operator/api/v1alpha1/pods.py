"""Resources, scheduling, rollout and pods: `spec.resources`, `spec.scheduling`, `spec.rollout` and
`spec.pods`, where the pods may run, how they change, and what a namespace's rules want on them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from octavo_operator.api.quantity import CpuQuantity, Duration, MemoryQuantity, duration_seconds
from octavo_operator.api.v1alpha1.base import (
    DNS_SUBDOMAIN,
    NAME_PART,
    ApiModel,
    ObjectName,
    cel,
    cel_between,
    rules,
)
from octavo_operator.api.v1alpha1.metadata import (
    LONGEST_KEY,
    LONGEST_PREFIX,
    LabelKey,
    LabelValue,
    UserAnnotations,
    UserLabels,
)

MIN_PROGRESS_DEADLINE = "30s"
MAX_PROGRESS_DEADLINE = "24h"
MAX_DRAIN_TIMEOUT = "24h"
DEFAULT_CPU = "500m"
_TAINT_KEY = rf"^(({DNS_SUBDOMAIN}/)?{NAME_PART})?$"
_RESOURCE = rf"^{DNS_SUBDOMAIN}/{NAME_PART}$"
# `requests.` begins a quota's name of it, and what is Kubernetes' own is no extended resource.
_RESOURCE_RULE = (
    "!self.startsWith('requests.') && !self.contains('kubernetes.io/') && "
    f"self.indexOf('/') <= {LONGEST_PREFIX - len('requests.')}"
)
_DRAIN_HELP = f"must be at most {MAX_DRAIN_TIMEOUT}"
_DEADLINE_HELP = f"must be from {MIN_PROGRESS_DEADLINE} to {MAX_PROGRESS_DEADLINE}"


class DownloadResourcesSpec(ApiModel):
    """Requests and limits alike of the container that downloads the model."""

    cpu: CpuQuantity | None = Field(default=None, description="100m without a limit when absent.")
    memory: MemoryQuantity | None = Field(
        default=None, description="256Mi without a limit when absent."
    )
    ephemeral_storage: MemoryQuantity | None = Field(
        default=None, description="Not asked for when absent."
    )


class ResourcesSpec(ApiModel):
    """What one replica asks of its node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                "!has(self.cpu) || !has(self.cpuLimit) || !isQuantity(string(self.cpu)) || "
                "!isQuantity(string(self.cpuLimit)) || quantity(string(self.cpu))"
                ".compareTo(quantity(string(self.cpuLimit))) <= 0",
                "must not be smaller than cpu",
                "cpuLimit",
            )
        )
    )

    gpu: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0,
        description="GPUs of one replica, all of one node: 0 computes on the CPU, several share the model "
        "(`engine.tensorParallelSize` when absent).",
    )
    gpu_resource: Annotated[
        str,
        Field(
            min_length=3,
            max_length=LONGEST_KEY,
            pattern=_RESOURCE,
            json_schema_extra=rules(
                cel(_RESOURCE_RULE, "is no extended resource's name, such as nvidia.com/gpu")
            ),
        ),
    ] = Field(default="nvidia.com/gpu", description="Name of the extended resource.")
    cpu: CpuQuantity | None = Field(
        default=None,
        description=f"CPU request; {DEFAULT_CPU} when absent, or `cpuLimit` if that is less. There is no "
        "limit but `cpuLimit`.",
    )
    memory: MemoryQuantity | None = Field(
        default=None,
        description="Memory request and limit. When absent the request is 1Gi and there is no limit.",
    )
    cpu_limit: CpuQuantity | None = Field(
        default=None,
        description="CPU limit, for namespaces whose quota wants one; it makes a busy server slower.",
    )
    ephemeral_storage: MemoryQuantity | None = Field(
        default=None,
        description="Request and limit of the node's disk; without `model.cache` a download lies there.",
    )
    download: DownloadResourcesSpec | None = Field(
        default=None,
        description="What the download asks for, for namespaces whose quota wants limits on every "
        "container.",
    )


class TolerationOperator(StrEnum):
    """How a toleration compares; empty as Equal."""

    EXISTS = "Exists"
    EQUAL = "Equal"
    UNSAID = ""


class TaintEffect(StrEnum):
    """What a taint does; empty stands for every effect."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"
    EVERY = ""


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
                "must be Exists when key is empty, which means every key",
                "operator",
            ),
            cel(
                "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
                "must be empty when operator is Exists",
                "value",
            ),
            cel(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "must be NoExecute when tolerationSeconds is set",
                "effect",
            ),
            cel(
                f"!has(self.key) || self.key.indexOf('/') <= {LONGEST_PREFIX}",
                f"has a prefix of more than {LONGEST_PREFIX} characters",
                "key",
            ),
        )
    )

    key: Annotated[str, Field(max_length=LONGEST_KEY, pattern=_TAINT_KEY)] | None = Field(
        default=None, description="Key of the taint."
    )
    operator: TolerationOperator | None = Field(
        default=None, description="Equal when absent or empty."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint.")
    effect: TaintEffect | None = Field(
        default=None, description="Every effect when absent or empty."
    )
    toleration_seconds: Annotated[int, Field(ge=-(2**53), le=2**53)] | None = Field(
        default=None,
        description="How long a NoExecute taint is tolerated; not at all when it is 0 or less.",
    )


class SchedulingSpec(ApiModel):
    """Where the pods may run."""

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Labels that a node must have."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = Field(
        default=(), description="Taints that the pods tolerate."
    )
    runtime_class_name: ObjectName | None = Field(
        default=None, description="RuntimeClass, such as nvidia."
    )
    priority_class_name: ObjectName | None = Field(
        default=None,
        description="PriorityClass of the pods. After it was raised, new pods take the room of the old ones "
        "where there is no other.",
    )


class RolloutStrategy(StrEnum):
    """How pods of a new revision replace those of the old one."""

    AUTO = "Auto"
    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"


class RolloutSpec(ApiModel):
    """How changes reach the pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                f"duration(self.progressDeadline) >= duration('{MIN_PROGRESS_DEADLINE}') && "
                f"duration(self.progressDeadline) <= duration('{MAX_PROGRESS_DEADLINE}')",
                _DEADLINE_HELP,
                "progressDeadline",
            ),
            cel_between(
                f"duration(self.drainTimeout) <= duration('{MAX_DRAIN_TIMEOUT}')",
                _DRAIN_HELP,
                "drainTimeout",
            ),
        )
    )

    strategy: RolloutStrategy = Field(
        default=RolloutStrategy.AUTO,
        description="RollingUpdate adds a new pod before it takes an old one away. Recreate stops "
        "all old pods first. Auto is RollingUpdate, but replaces pods one by one in place when there "
        "is no room for an additional one (GPU, CPU, memory, volume, quota) and at least two "
        "replicas run.",
    )
    drain_timeout: Duration = Field(
        default="5m",
        description="How long a leaving pod may finish its requests; those that take longer are cut. New "
        "connections are answered for at most half of it, and five seconds: a small value loses requests "
        f"where a busy cluster still sends some then. At most {MAX_DRAIN_TIMEOUT}.",
    )
    progress_deadline: Duration = Field(
        default="30m",
        description="How long a rollout may go without a pod becoming ready before it counts as "
        f"failed; {MIN_PROGRESS_DEADLINE} to {MAX_PROGRESS_DEADLINE}.",
    )

    @field_validator("drain_timeout")
    @classmethod
    def _ends_some_day(cls, text: str) -> str:
        """The schema refuses more; what was stored before it did is cut."""
        is_longer = duration_seconds(text) > duration_seconds(MAX_DRAIN_TIMEOUT)
        return MAX_DRAIN_TIMEOUT if is_longer else text

    @field_validator("progress_deadline")
    @classmethod
    def _within_bounds(cls, text: str) -> str:
        low, high = map(duration_seconds, (MIN_PROGRESS_DEADLINE, MAX_PROGRESS_DEADLINE))
        if not low <= duration_seconds(text) <= high:
            raise ValueError(f"{text!r} {_DEADLINE_HELP}")
        return text


_VARIABLE = r"^(CUDA|GLOO|KMP|MKL|NCCL|OMP|OPENBLAS)_[A-Z0-9_]{1,120}$"
_VARIABLE_HELP = (
    "must be a variable of CUDA_, GLOO_, KMP_, MKL_, NCCL_, OMP_ or OPENBLAS_: others reach past the "
    "namespace or the flags"
)


class Variable(ApiModel):
    """A variable of the serving container's environment."""

    name: Annotated[str, Field(max_length=128, pattern=_VARIABLE)] = Field(
        description="Of the libraries that compute and communicate: " + _VARIABLE_HELP + "."
    )
    value: Annotated[str, Field(max_length=1024)] = Field(description="Its value.")


class PullSecret(ApiModel):
    """A Secret with an image registry's credentials."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace.")


class PodsSpec(ApiModel):
    """What a namespace's rules, bills and registries want on the pods."""

    labels: UserLabels = Field(
        default_factory=dict,
        description="Labels of the pods and, but for those of kubernetes.io and k8s.io, of all that is made "
        "for them, beside Octavo's own.",
    )
    annotations: UserAnnotations = Field(
        default_factory=dict, description="Annotations of the pods beside Octavo's own."
    )
    env: Annotated[tuple[Variable, ...], Field(max_length=32)] = Field(
        default=(),
        description="Variables of the serving container.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=8)] = Field(
        default=(), description="Credentials for the runtime image beside the installation's."
    )
