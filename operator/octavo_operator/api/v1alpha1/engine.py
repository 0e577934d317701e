"""`spec.engine`: the flags of `octavo serve` in camelCase."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from octavo_operator.api.quantity import MemoryQuantity, Share
from octavo_operator.api.v1alpha1.base import ApiModel, cel


class DType(StrEnum):
    """Number format of weights and activations."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Device(StrEnum):
    """Where a replica computes."""

    CUDA = "cuda"
    CPU = "cpu"


class KVCacheDType(StrEnum):
    """Number format of the KV cache."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"


class Quantization(StrEnum):
    """Weight-only formats that are made at load."""

    INT8 = "int8"
    INT4 = "int4"


class LoadFormat(StrEnum):
    """How weights come in; `dummy` makes random ones, for tests of capacity."""

    AUTO = "auto"
    SAFETENSORS = "safetensors"
    DUMMY = "dummy"


PositiveInt = Annotated[int, Field(ge=1, le=2_147_483_647)]


class EngineSpec(ApiModel):
    """Flags of `octavo serve` in camelCase; what is absent takes the runtime's default."""

    device: Device | None = Field(
        default=None,
        description="cuda or cpu; when absent, cuda for replicas that ask for GPUs, so that one whose "
        "driver does not work says so instead of computing on its CPU.",
    )
    max_model_len: Annotated[PositiveInt, Field(ge=2)] | None = Field(
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
    kv_cache_dtype: KVCacheDType | None = Field(
        default=None,
        description="Number format of the KV cache; fp8 holds twice the tokens of bfloat16.",
    )
    enable_prefix_caching: bool | None = Field(
        default=None,
        description="Lets prompts that begin alike share blocks of the KV cache; on when absent.",
    )
    block_size: Literal[8, 16, 32, 64, 128] | None = Field(
        default=None, description="Tokens in one block of the KV cache."
    )
    dtype: DType | None = Field(default=None, description="Number format of weights.")
    quantization: Quantization | None = Field(
        default=None,
        description="Rounds the weights to this format at load; as the checkpoint has them when "
        "absent.",
    )
    load_format: LoadFormat | None = Field(default=None, description="How weights come in.")
    enforce_eager: bool | None = Field(default=None, description="Use no CUDA graphs.")
    seed: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Seed of requests that bring none."
    )


ENGINE_BUDGET = cel(
    "(has(self.maxNumBatchedTokens) ? self.maxNumBatchedTokens : 2048) >= "
    "(has(self.maxNumSeqs) ? self.maxNumSeqs : 256)",
    "maxNumBatchedTokens (2048 when absent) must not be smaller than maxNumSeqs (256 when absent)",
    "maxNumBatchedTokens",
)
