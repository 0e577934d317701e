"""Engine flags. `spec.engine`: the flags of `octavo serve` in camelCase."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from octavo_operator.api.quantity import MemoryQuantity, Share
from octavo_operator.api.v1alpha1.base import ApiModel, cel_between
from octavo_operator.api.v1alpha1.speculative import SpeculativeSpec


class Dtype(StrEnum):
    """Number format of weights and activations."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Device(StrEnum):
    """Where a replica computes."""

    CUDA = "cuda"
    CPU = "cpu"


class KVCacheDtype(StrEnum):
    """Number format of the KV cache."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"


class Quantization(StrEnum):
    """Formats of weights: the first two are made at load, the others are what checkpoints hold."""

    INT8 = "int8"
    INT4 = "int4"
    AWQ = "awq"
    GPTQ = "gptq"
    COMPRESSED_TENSORS = "compressed-tensors"
    FP8 = "fp8"
    MXFP4 = "mxfp4"


class LoadFormat(StrEnum):
    """How weights come in; `dummy` makes random ones, for tests of capacity."""

    AUTO = "auto"
    SAFETENSORS = "safetensors"
    DUMMY = "dummy"


class ModelImplementation(StrEnum):
    """Whose code computes the model."""

    AUTO = "auto"
    OCTAVO = "octavo"
    TRANSFORMERS = "transformers"


PositiveInt = Annotated[int, Field(ge=1, le=2_147_483_647)]


class EngineSpec(ApiModel):
    """Flags of `octavo serve` in camelCase; what is absent takes the runtime's default.

    A description begins as the flag's help does, and no value is taken here that the flag refuses:
    tests/contract compares the two. A field's flag is its name in Python with dashes.
    """

    device: Device | None = Field(
        default=None,
        description="Where the model runs. cuda or cpu; when absent, cuda for replicas that ask for GPUs, "
        "so that one whose driver does not work says so instead of computing on its CPU.",
    )
    max_model_len: Annotated[PositiveInt, Field(ge=2)] | None = Field(
        default=None, description="Longest sequence in tokens, prompt and output together."
    )
    max_num_seqs: PositiveInt | None = Field(
        default=None, description="Sequences that run at once. Each replica has as many."
    )
    max_num_batched_tokens: PositiveInt | None = Field(
        default=None, description="Tokens of one step, prefill and decode together."
    )
    max_queued_requests: PositiveInt | None = Field(
        default=None,
        description="Sequences that may wait; more are refused with 429. Each replica counts its own.",
    )
    gpu_memory_utilization: Share | None = Field(
        default=None,
        description="Share of the GPU's memory for weights, activations and KV cache. Quoted, such as "
        '"0.9".',
    )
    kv_cache_memory: MemoryQuantity | None = Field(
        default=None, description="Size of the KV cache, such as 256Mi."
    )
    kv_cache_dtype: KVCacheDtype | None = Field(
        default=None,
        description="Number format of the KV cache; fp8 holds twice the tokens of bfloat16.",
    )
    enable_prefix_caching: bool | None = Field(
        default=None,
        description="Lets prompts that begin alike share blocks of the KV cache. On when absent.",
    )
    block_size: Literal[8, 16, 32, 64, 128] | None = Field(
        default=None, description="Tokens in one block of the KV cache."
    )
    dtype: Dtype | None = Field(
        default=None, description="Number format of weights and activations."
    )
    quantization: Quantization | None = Field(
        default=None,
        description="Format of the weights. int8 and int4 are made at load, and fp8 of a 16- or 32-bit "
        "checkpoint; any other must be the checkpoint's. As the checkpoint has them when absent.",
    )
    quantize_activations: bool | None = Field(
        default=None,
        description="Rounds activations to FP8 where the checkpoint says so and the GPU multiplies it. On "
        "when absent.",
    )
    load_format: LoadFormat | None = Field(
        default=None, description="How weights come in; dummy makes random ones."
    )
    model_impl: ModelImplementation | None = Field(
        default=None,
        description="Whose code computes the model: Octavo's own, or transformers'. Octavo's own where there "
        "is one when absent.",
    )
    enforce_eager: bool | None = Field(default=None, description="Uses no CUDA graphs.")
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Seed of requests that bring none, and of dummy weights."
    )
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="Processes that share the model, each with a part of every weight. On GPUs as many as "
        "`resources.gpu` when absent, on CPUs one.",
    )
    distributed_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None,
        description="Seconds that ranks wait for each other in a step before all of them end.",
    )
    enable_sleep_mode: bool | None = Field(
        default=None,
        description="Lets the model be put to sleep and woken: POST /sleep and /wake_up on the ops port. "
        "A replica that sleeps is not ready.",
    )
    speculative_config: SpeculativeSpec | None = Field(
        default=None,
        alias="speculative",
        description="Speculative decoding. Off when absent.",
    )
    enable_lora: bool | None = Field(
        default=None,
        description="Takes LoRA adapters beside the model. They are loaded by each pod's ops port.",
    )
    max_loras: PositiveInt | None = Field(
        default=None, description="Adapters whose requests run at once; those of others wait."
    )
    max_lora_rank: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description="Highest rank of an adapter; one of a higher rank is refused.",
    )
    max_cpu_loras: PositiveInt | None = Field(
        default=None,
        description="Adapters that are held in memory; one more is refused. No limit when absent.",
    )


DEFAULT_MAX_NUM_SEQS = 256
DEFAULT_MAX_NUM_BATCHED_TOKENS = 2048
"""The runtime's, for the rule that compares the two."""

ENGINE_BUDGET = cel_between(
    f"(has(self.maxNumBatchedTokens) ? self.maxNumBatchedTokens : {DEFAULT_MAX_NUM_BATCHED_TOKENS}) >= "
    f"(has(self.maxNumSeqs) ? self.maxNumSeqs : {DEFAULT_MAX_NUM_SEQS})",
    f"maxNumBatchedTokens ({DEFAULT_MAX_NUM_BATCHED_TOKENS} when absent) must not be smaller than "
    f"maxNumSeqs ({DEFAULT_MAX_NUM_SEQS} when absent)",
    "maxNumBatchedTokens",
)


_MADE_AT_LOAD = (Quantization.INT8, Quantization.INT4, Quantization.FP8)
RANDOM_WEIGHTS_ARE_OF_NO_CHECKPOINT = cel_between(
    f"!has(self.loadFormat) || self.loadFormat != '{LoadFormat.DUMMY}' || !has(self.quantization) || "
    f"self.quantization in [{', '.join(repr(each.value) for each in _MADE_AT_LOAD)}]",
    "must be auto or safetensors with a quantization that checkpoints alone have: random weights are made "
    "int8, int4 or fp8",
    "loadFormat",
)


def _needs_lora(field: str) -> dict[str, Any]:
    return cel_between(
        f"!has(self.{field}) || (has(self.enableLora) && self.enableLora)",
        "has no effect without adapters: set enableLora, or leave it out",
        field,
    )


LIMITS_OF_ADAPTERS = tuple(
    _needs_lora(field) for field in ("maxLoras", "maxLoraRank", "maxCpuLoras")
)
