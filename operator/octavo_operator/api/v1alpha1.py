"""LLMDeployment, version v1alpha1: what users write (`spec`) and what the operator answers (`status`).

The CRD is generated from these models. Field descriptions are what `kubectl explain` prints. Only
what the runtime can do has a field: nothing in a spec is ever silently ignored, except `replicas`
beside `autoscaling`, which the description of `replicas` says.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from octavo_operator.api.conditions import ConditionStatus, ConditionType, Reason
from octavo_operator.api.quantity import Duration, MemoryQuantity, Quantity, Share

GROUP = "octavo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"

# Each segment starts with a letter or digit, so that neither `..` nor a flag can be written.
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_URI = re.compile(
    rf"^(hf://{_SEGMENT}/{_SEGMENT}(@[A-Za-z0-9][A-Za-z0-9._/-]*)?"
    rf"|s3://[a-z0-9][a-z0-9.-]*(/{_SEGMENT})+/?"
    rf"|pvc://[a-z0-9][a-z0-9.-]*(/{_SEGMENT})*/?"
    r"|builtin://[a-z0-9][a-z0-9-]*)$"
)
_URI_HELP = (
    "must be hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path or builtin://name, "
    "without '..'"
)
_SERVED_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"
_DNS_SUBDOMAIN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
_LABEL_KEY = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
_LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"


def _cel(rule: str, message: str, field: str | None = None) -> dict[str, str]:
    validation = {"rule": rule, "message": message}
    return validation if field is None else validation | {"fieldPath": f".{field}"}


def _rules(*validations: dict[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(validations)}


class _Model(BaseModel):
    # Unknown fields: the API server prunes them, and a CRD newer than the operator must still work.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


def _checked_uri(uri: str) -> str:
    if _URI.fullmatch(uri) is None or ".." in uri:
        raise ValueError(f"{uri!r} {_URI_HELP}")
    return uri


ModelUri = Annotated[
    str,
    AfterValidator(_checked_uri),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 512,
            **_rules(_cel(f"self.matches(r'{_URI.pattern}') && !self.contains('..')", _URI_HELP)),
        }
    ),
]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=_DNS_SUBDOMAIN)]


class SecretReference(_Model):
    """A Secret in the namespace of the LLMDeployment."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace.")


class AuthSecretReference(SecretReference):
    """A key of a Secret in the namespace of the LLMDeployment."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._-]+$")] = Field(
        default="api-key", description="Key in the Secret that holds the API key."
    )


class AccessMode(StrEnum):
    """How many nodes may mount the model cache."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class CacheSpec(_Model):
    """A volume that keeps the downloaded model for all replicas and later pods."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            _cel(
                "has(self.storageClassName) == has(oldSelf.storageClassName) && "
                "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                "is immutable: remove the cache and add it again to move it",
                "storageClassName",
            ),
            _cel(
                "self.accessMode == oldSelf.accessMode",
                "is immutable: remove the cache and add it again to change it",
                "accessMode",
            ),
            _cel(
                "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
                "can only grow",
                "size",
            ),
        )
    )

    size: MemoryQuantity = Field(description="Size of the volume, such as 50Gi; it can only grow.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="StorageClass; the cluster's default when absent."
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="ReadWriteMany lets replicas run on many nodes; with ReadWriteOnce all replicas "
        "are placed on one node.",
    )


class ModelSpec(_Model):
    """Which model, under which names, and how it is fetched."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            _cel(
                "!has(self.cache) || self.uri.startsWith('hf://') || self.uri.startsWith('s3://')",
                "is for models that are downloaded: hf:// and s3://",
                "cache",
            ),
            _cel(
                "!has(self.secretRef) || self.uri.startsWith('hf://') "
                "|| self.uri.startsWith('s3://')",
                "is for models that are downloaded: hf:// and s3://",
                "secretRef",
            ),
        )
    )

    uri: ModelUri = Field(
        description="hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path (a claim in this "
        "namespace) or builtin://demo."
    )
    served_names: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1, max_length=128, pattern=_SERVED_NAME)], ...],
            Field(min_length=1, max_length=8),
        ]
        | None
    ) = Field(
        default=None,
        description="Names that requests may use as `model`; metadata.name when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret whose keys are the environment of the download alone, such as HF_TOKEN "
        "or AWS_ACCESS_KEY_ID. The serving container does not see it.",
    )
    cache: CacheSpec | None = Field(
        default=None, description="Keeps the download; when absent each pod downloads by itself."
    )

    @property
    def scheme(self) -> Literal["hf", "s3", "pvc", "builtin"]:
        """The part of the URI before `://`."""
        scheme = self.uri.partition("://")[0]
        match scheme:
            case "hf" | "s3" | "pvc" | "builtin":
                return scheme
            case _:
                raise ValueError(f"spec.model.uri: {self.uri!r} {_URI_HELP}")

    @property
    def is_downloaded(self) -> bool:
        """Whether a download precedes serving."""
        return self.scheme in ("hf", "s3")


class DType(StrEnum):
    """Number format of weights and activations."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class LoadFormat(StrEnum):
    """How weights come in; `dummy` makes random ones, for tests of capacity."""

    AUTO = "auto"
    SAFETENSORS = "safetensors"
    DUMMY = "dummy"


PositiveInt = Annotated[int, Field(ge=1, le=2_147_483_647)]


class EngineSpec(_Model):
    """Flags of `octavo serve` in camelCase; what is absent takes the runtime's default."""

    max_model_len: PositiveInt | None = Field(
        default=None, description="Longest sequence in tokens, prompt and output together."
    )
    max_num_seqs: PositiveInt | None = Field(
        default=None, description="Requests that run at once in one replica."
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        default=None, description="Tokens of one step, prefill and decode together."
    )
    max_queued_requests: PositiveInt | None = Field(
        default=None, description="Requests that may wait in one replica; more get 429."
    )
    gpu_memory_utilization: Share | None = Field(
        default=None, description='Share of the GPU\'s memory to use, quoted, such as "0.9".'
    )
    kv_cache_memory: MemoryQuantity | None = Field(
        default=None, description="Fixed size of the KV cache, such as 512Mi."
    )
    block_size: Literal[8, 16, 32, 64, 128] | None = Field(
        default=None, description="Tokens in one block of the KV cache."
    )
    dtype: DType | None = Field(default=None, description="Number format of weights.")
    load_format: LoadFormat | None = Field(default=None, description="How weights come in.")
    enforce_eager: bool | None = Field(default=None, description="Use no CUDA graphs.")
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Seed of requests that bring none."
    )


class AutoscalingSpec(_Model):
    """Replicas follow the queue."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            _cel(
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
        description="Waiting requests per replica above which replicas are added.",
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


class ResourcesSpec(_Model):
    """What one replica asks of its node."""

    gpu: Annotated[int, Field(ge=0, le=1)] = Field(
        default=0,
        description="GPUs of one replica: 0 computes on the CPU, 1 is the most that it can use.",
    )
    gpu_resource: Annotated[
        str, Field(min_length=3, max_length=253, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    ] = Field(default="nvidia.com/gpu", description="Name of the extended resource.")
    cpu: Quantity | None = Field(
        default=None, description="CPU request; 500m when absent. There is no CPU limit."
    )
    memory: Quantity | None = Field(
        default=None,
        description="Memory request and limit. When absent the request is 1Gi and there is no limit.",
    )


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(_Model):
    """A taint that the pods tolerate, as in a pod."""

    key: Annotated[str, Field(max_length=316)] | None = Field(
        default=None, description="Key of the taint."
    )
    operator: TolerationOperator | None = Field(default=None, description="Equal when absent.")
    value: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Value of the taint."
    )
    effect: TaintEffect | None = Field(default=None, description="Every effect when absent.")
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long a NoExecute taint is tolerated."
    )


class SchedulingSpec(_Model):
    """Where the pods may run."""

    node_selector: Annotated[
        dict[
            Annotated[str, Field(max_length=316, pattern=_LABEL_KEY)],
            Annotated[str, Field(max_length=63, pattern=_LABEL_VALUE)],
        ],
        Field(max_length=32),
    ] = Field(default_factory=dict, description="Labels that a node must have.")
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = Field(
        default=(), description="Taints that the pods tolerate."
    )
    runtime_class_name: ObjectName | None = Field(
        default=None, description="RuntimeClass, such as nvidia."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="PriorityClass of the pods."
    )


class RolloutStrategy(StrEnum):
    """How pods of a new revision replace those of the old one."""

    AUTO = "Auto"
    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"


class RolloutSpec(_Model):
    """How changes reach the pods."""

    strategy: RolloutStrategy = Field(
        default=RolloutStrategy.AUTO,
        description="RollingUpdate adds a new pod before it takes an old one away. Recreate stops "
        "all old pods first. Auto is RollingUpdate, but replaces pods one by one in place when no "
        "GPU is free for an additional one and at least two replicas run.",
    )
    drain_timeout: Duration = Field(
        default="5m", description="How long a leaving pod may finish its requests."
    )
    progress_deadline: Duration = Field(
        default="30m", description="How long a pod may take to become ready."
    )


class AuthSpec(_Model):
    """Who may use the OpenAI port."""

    secret_ref: AuthSecretReference = Field(
        description="API key that requests must bring as a bearer token."
    )


_ENGINE_BUDGET = _cel(
    "(has(self.maxNumBatchedTokens) ? self.maxNumBatchedTokens : 2048) >= "
    "(has(self.maxNumSeqs) ? self.maxNumSeqs : 256)",
    "maxNumBatchedTokens (2048 when absent) must not be smaller than maxNumSeqs (256 when absent)",
    "maxNumBatchedTokens",
)


class LLMDeploymentSpec(_Model):
    """What the user wants."""

    model: ModelSpec = Field(description="The model.")
    engine: EngineSpec = Field(
        default_factory=EngineSpec,
        description="Flags of `octavo serve` in camelCase.",
        json_schema_extra=_rules(_ENGINE_BUDGET),
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
    auth: AuthSpec | None = Field(
        default=None,
        description="Who may use the OpenAI port; open within the cluster when absent.",
    )


class Condition(_Model):
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


class LLMDeploymentStatus(_Model):
    """What the operator sees."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Generation of the spec that this status speaks about."
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
    ready: str = Field(default="0/0", description="readyReplicas/desiredReplicas.")
    queue: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Requests that wait, over all replicas; with autoscaling only."
    )
    selector: str = Field(default="", description="Label selector of the pods.")
    revision: str = Field(default="", description="Hash of the pod template in force.")
    url: str = Field(default="", description="Base URL for OpenAI clients within the cluster.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, ModelAvailable, Progressing, Autoscaling, Degraded.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


class LLMDeployment(_Model):
    """Serves one model with the OpenAI API, on as many pods as asked for or needed."""

    spec: LLMDeploymentSpec
    status: LLMDeploymentStatus = Field(default_factory=LLMDeploymentStatus)
