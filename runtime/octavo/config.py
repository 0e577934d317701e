"""Engine configuration: what one engine is started with, each option told once.

Serialisable, so that the API process hands it to the engine process.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from octavo.option_pairs import check_pairs
from octavo.options import Option, Panel, check_options
from octavo.speculative_config import SpeculativeConfig

_MOST = 2**31 - 1
_GPU_MEMORY_SHARE = 0.9


class Device(enum.Enum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    @property
    def is_cpu(self) -> bool:
        return self is Device.CPU


class LoadFormat(enum.Enum):
    """`DUMMY` makes random weights of the real shapes: speed does not depend on the values."""

    AUTO = "auto"
    SAFETENSORS = "safetensors"
    DUMMY = "dummy"

    @property
    def is_random(self) -> bool:
        return self is LoadFormat.DUMMY


class ModelImplementation(enum.Enum):
    """`AUTO` takes Octavo's own family where there is one, else transformers' modules."""

    AUTO = "auto"
    OCTAVO = "octavo"
    TRANSFORMERS = "transformers"

    @property
    def is_generic_alone(self) -> bool:
        return self is ModelImplementation.TRANSFORMERS


class KVCacheDtype(enum.Enum):
    """`FP8` and `FP8_E4M3` are two names of one format, as in vLLM."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"

    @property
    def is_fp8(self) -> bool:
        return self in (KVCacheDtype.FP8, KVCacheDtype.FP8_E4M3)


class Quantization(enum.Enum):
    """Formats of weights: `INT8` and `INT4` are made at load, the others are what checkpoints hold; `FP8` is
    either."""

    INT8 = "int8"
    INT4 = "int4"
    AWQ = "awq"
    GPTQ = "gptq"
    COMPRESSED_TENSORS = "compressed-tensors"
    FP8 = "fp8"
    MXFP4 = "mxfp4"

    @property
    def is_made_at_load(self) -> bool:
        return self in (Quantization.INT8, Quantization.INT4)

    @property
    def is_checkpoints_alone(self) -> bool:
        """Nothing but a checkpoint has it."""
        return not self.is_made_at_load and self is not Quantization.FP8


class NodePlace(msgspec.Struct, frozen=True, kw_only=True):
    """A node among those that share a model.

    Args:
        master_addr, master_port: Of the first node, on the group's own network.
    """

    num_nodes: int
    node_rank: int
    master_addr: str
    master_port: int


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One engine. Raises `InvalidConfigurationError` when built with a value out of range.

    Each field's `Option` says what it means. Beside the options:

    Args:
        model: Folder with config.json, safetensors and tokenizer (already resolved and downloaded).
        place: Of this node; None where one node has all ranks.
    """

    model: str
    place: NodePlace | None = None
    load_format: Annotated[
        LoadFormat,
        Option(
            panel=Panel.MODEL,
            help="How weights come in; dummy makes random ones.",
            details="`auto`, `safetensors`, `dummy` (random weights)",
        ),
    ] = LoadFormat.AUTO
    model_impl: Annotated[
        ModelImplementation,
        Option(
            panel=Panel.MODEL,
            help="Whose code computes the model: Octavo's own, or transformers'.",
            details="`auto`: Octavo's own where [the architecture has it](models.md), else transformers' "
            "modules over the paged KV cache; `octavo`, `transformers`: that alone, or a refusal",
        ),
    ] = ModelImplementation.AUTO
    dtype: Annotated[
        str,
        Option(
            panel=Panel.MODEL,
            choices=("auto", "float32", "float16", "bfloat16"),
            help="Number format of weights and activations.",
            details="`auto`, `float32`, `float16`, `bfloat16`. `auto` is the checkpoint's on a GPU; on a CPU "
            "`bfloat16` for checkpoints of 16 bits and 20 million parameters or more where the CPU "
            "multiplies it, else `float32`",
        ),
    ] = "auto"
    quantization: Annotated[
        Quantization | None,
        Option(
            panel=Panel.MODEL,
            default="the checkpoint's",
            help="Format of the weights. int8 and int4 are made at load, and fp8 of a 16- or 32-bit "
            "checkpoint; any other must be the checkpoint's.",
            details="`int8`, `int4`: rounds the weights while they are loaded; `fp8`: the same, of weights "
            "that are not so stored; `awq`, `gptq`, `compressed-tensors`, `mxfp4`: refuses a checkpoint that "
            "is not quantised so; see [quantised weights](quantised-weights.md)",
        ),
    ] = None
    quantize_activations: Annotated[
        bool,
        Option(
            panel=Panel.MODEL,
            is_for_gpus=True,
            help="Rounds activations to FP8 where the checkpoint says so and the GPU multiplies it.",
            details="rounds activations to FP8 where the checkpoint says so and the GPU multiplies it (L4, "
            "H100 and later): see [quantised weights](quantised-weights.md#activations-in-fp8); "
            "`--no-quantize-activations` keeps them in their dtype",
        ),
    ] = True
    max_model_len: Annotated[
        int | None,
        Option(
            panel=Panel.MODEL,
            least=2,
            most=_MOST,
            limit_reason="a token of prompt and one of output",
            default="the model's, or what the KV cache holds",
            help="Longest sequence in tokens, prompt and output together. Default: the model's.",
            details="context in tokens; a wish that does not fit is refused with the length that would",
        ),
    ] = None
    device: Annotated[
        Device,
        Option(
            panel=Panel.ENGINE,
            help="Where the model runs. auto takes a GPU where one is.",
            details="`auto`, `cpu`, `cuda`",
        ),
    ] = Device.AUTO
    gpu_memory_utilization: Annotated[
        float | None,
        Option(
            panel=Panel.ENGINE,
            least=0.05,
            most=1.0,
            default=f"nine tenths, {_GPU_MEMORY_SHARE:g}",
            is_for_gpus=True,
            help="Share of the GPU's memory for weights, activations and KV cache. Default: "
            f"{_GPU_MEMORY_SHARE:g}.",
            details="share of the GPU's memory for weights, activations and KV cache; on a CPU without "
            "effect, and the log says so",
        ),
    ] = None
    kv_cache_memory_bytes: Annotated[
        int | None,
        Option(
            panel=Panel.ENGINE,
            flag="kv-cache-memory",
            aliases=("kv-cache-memory-bytes",),
            is_size=True,
            least=1,
            most=2**63 - 1,
            default="what is free",
            help="Size of the KV cache, such as 256Mi. Default: what is free.",
            details="size of the KV cache, of each rank where several share the model: `256Mi`, `2G`, bytes. "
            "Without it: on a GPU what "
            "`--gpu-memory-utilization` leaves beside weights and activations; on a CPU 40 % of what the "
            "weights leave, 4 GiB at most",
        ),
    ] = None
    kv_cache_dtype: Annotated[
        KVCacheDtype,
        Option(
            panel=Panel.ENGINE,
            help="Number format of the KV cache; fp8 holds twice the tokens of bfloat16.",
            details="`auto` (the model's), `bfloat16`, `fp8` or `fp8_e4m3`: float8 e4m3, twice the tokens of "
            "`bfloat16` in the same memory; on GPUs from L4 and H100 on, and on CPUs, where decodes of long "
            "contexts take several times as long with it",
        ),
    ] = KVCacheDtype.AUTO
    enable_prefix_caching: Annotated[
        bool,
        Option(
            panel=Panel.ENGINE,
            help="Lets prompts that begin alike share blocks of the KV cache.",
            details="prompts that begin alike share their KV blocks, also after a request has ended",
        ),
    ] = True
    block_size: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            choices=(8, 16, 32, 64, 128),
            help="Tokens in one block of the KV cache.",
        ),
    ] = 16
    tensor_parallel_size: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=1,
            most=64,
            help="Processes that share the model, each with a part of every weight.",
            details="processes (ranks) that share the model, each with a part of every weight and of the KV "
            "cache, and on GPUs a GPU: see [tensor parallelism](../how-to/tensor-parallel.md)",
        ),
    ] = 1
    distributed_timeout_seconds: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=1,
            most=86400,
            help="Seconds that ranks wait for each other in a step before all of them end.",
        ),
    ] = 60
    enable_sleep_mode: Annotated[
        bool,
        Option(
            panel=Panel.ENGINE,
            help="Lets the model be put to sleep and woken: POST /sleep and /wake_up on the ops port.",
            details="the model can be put to sleep, which lends its memory to others, and woken: see "
            "[sleep](../how-to/sleep.md)",
        ),
    ] = False
    speculative_config: Annotated[
        SpeculativeConfig | None,
        Option(
            panel=Panel.ENGINE,
            is_json=True,
            default="off",
            help='Speculative decoding. A JSON object such as {"method": "ngram"}.',
            details="speculative decoding, as a JSON object of vLLM's names: `method` (`ngram`, "
            "`draft_model`, `eagle3`), `num_speculative_tokens`, `prompt_lookup_min`, "
            "`prompt_lookup_max`, `model`; see [speculative decoding](../how-to/speculative-decoding.md)",
        ),
    ] = None
    enable_lora: Annotated[
        bool,
        Option(
            panel=Panel.ENGINE,
            help="Takes LoRA adapters beside the model.",
            details="takes [LoRA adapters](../how-to/lora.md) beside the model, at the start "
            "(`--lora-modules`) and while it serves",
        ),
    ] = False
    max_loras: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            needs="enable_lora",
            least=1,
            most=_MOST,
            help="Adapters whose requests run at once; those of others wait.",
        ),
    ] = 1
    max_lora_rank: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            needs="enable_lora",
            least=1,
            most=4096,
            help="Highest rank of an adapter; one of a higher rank is refused.",
        ),
    ] = 16
    max_cpu_loras: Annotated[
        int | None,
        Option(
            panel=Panel.ENGINE,
            needs="enable_lora",
            least=1,
            most=_MOST,
            default="no limit",
            help="Adapters that are held in memory; one more is refused. Default: no limit.",
            details="adapters that are held in memory; one more is refused until another is unloaded",
        ),
    ] = None
    max_num_seqs: Annotated[
        int,
        Option(panel=Panel.ENGINE, least=1, most=_MOST, help="Sequences that run at once."),
    ] = 256
    max_num_batched_tokens: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=1,
            most=_MOST,
            help="Tokens of one step, prefill and decode together.",
            details="tokens of one step, prefill and decode together; on a CPU a long prompt has at most "
            "sixteen for each decode beside it, or 256 where that is more",
        ),
    ] = 2048
    enforce_eager: Annotated[
        bool,
        Option(
            panel=Panel.ENGINE,
            is_for_gpus=True,
            help="Uses no CUDA graphs.",
            details="uses no CUDA graphs; on a CPU, which has none, without effect, and the log says so",
        ),
    ] = False
    seed: Annotated[
        int,
        Option(
            panel=Panel.ENGINE,
            least=-(2**63),
            most=2**63 - 1,
            help="Seed of requests that bring none, and of dummy weights.",
        ),
    ] = 0
    max_queued_requests: Annotated[
        int,
        Option(
            panel=Panel.OPERATION,
            least=1,
            most=_MOST,
            help="Sequences that may wait; more are refused with 429.",
        ),
    ] = 1024

    @property
    def gpu_memory_share(self) -> float:
        """`gpu_memory_utilization`, or what holds without it."""
        given = self.gpu_memory_utilization
        return _GPU_MEMORY_SHARE if given is None else given

    @property
    def num_nodes(self) -> int:
        return 1 if self.place is None else self.place.num_nodes

    @property
    def local_ranks(self) -> range:
        """Those of this node."""
        count = self.tensor_parallel_size // self.num_nodes
        first = 0 if self.place is None else self.place.node_rank * count
        return range(first, first + count)

    def __post_init__(self) -> None:
        check_options(self)
        check_pairs(self)
