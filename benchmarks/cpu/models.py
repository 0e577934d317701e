"""Models of the CPU benchmark, as folders that both sides load."""

from __future__ import annotations

import enum
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import octavo.builtin
from benchmarks.cpu.stored_checkpoints import Checkpoint, write_checkpoint
from octavo.worker.machine import has_fast_bfloat16

DEMO = Path(octavo.builtin.__path__[0]) / "demo"

# Qwen3-0.6B's config.json: the real shapes. Speed does not depend on the values of the weights.
QWEN3_0_6B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "use_cache": True,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "dtype": "bfloat16",
}
_SHAPE = "qwen3-0.6b-shape"


def peers_dtype() -> str:
    """What peers multiply a checkpoint of bfloat16 in: where the CPU multiplies none, float32 is faster."""
    return "bfloat16" if has_fast_bfloat16() else "float32"


class Quantization(enum.Enum):
    """Of the weights alone; the value is the flag of `octavo serve`."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"


@dataclass(frozen=True, slots=True)
class GGUFTypes:
    """Of the layers' matrices and of the head, as `llama-quantize` names them."""

    matrices: str
    head: str

    def __str__(self) -> str:
        names = dict.fromkeys((self.matrices, self.head))
        return "-".join(names)


_ROUNDED_GGUF = {
    Quantization.NONE: GGUFTypes("bf16", "bf16"),
    Quantization.INT8: GGUFTypes("q8_0", "q8_0"),
    # What `llama-quantize` takes for a table that is the head too.
    Quantization.INT4: GGUFTypes("q4_0", "q6_k"),
}


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """A model folder, the baselines that fit it, and the load.

    Args:
        transformers_forms: Dtype, and whether on one thread alone; the fastest counts. Empty leaves
            transformers out.
        gguf: What llama.cpp runs, with random weights of the same shapes; None leaves it out.
        has_peers: vLLM and OpenVINO GenAI do.
        is_in_process_too: Octavo's `LLM` runs beside the server.
        bytes_per_token: Of weights, which one request reads for each token; 0: not counted.
        prompt_tokens: Of each request, a load for each number; as `output_tokens` and `concurrencies`
            unless the command line says otherwise.
        concurrencies: Requests at once.
    """

    name: str
    folder: Path
    dummy_weights: bool
    transformers_forms: tuple[tuple[str, bool], ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: int
    concurrencies: tuple[int, ...]
    gguf: GGUFTypes | None = None
    has_peers: bool = False
    is_in_process_too: bool = True
    quantization: Quantization = Quantization.NONE
    bytes_per_token: int = 0

    @property
    def max_model_len(self) -> int:
        return max(2048, max(self.prompt_tokens) + self.output_tokens)


def demo_model() -> BenchmarkModel:
    forms = (("float32", False), ("float32", True), ("bfloat16", False))
    return BenchmarkModel("builtin-demo", DEMO, False, forms, (32,), 128, concurrencies=(1, 8, 32))


def qwen3_0_6b(work: Path, quantization: Quantization = Quantization.NONE) -> BenchmarkModel:
    """Writes the folder into `work`; its tokenizer is the demo model's: only ids are sent.

    64 prompt and 128 output tokens: mostly decode, as a chat is. Quantised, llama.cpp alone compares:
    transformers has no weight-only form of its own for CPUs.
    """
    folder = _folder_with_tokenizer(work / _SHAPE)
    (folder / "config.json").write_text(json.dumps(QWEN3_0_6B, indent=1))
    is_quantised = quantization is not Quantization.NONE
    return BenchmarkModel(
        f"{_SHAPE}{'-' + quantization.value if is_quantised else ''}",
        folder,
        dummy_weights=True,
        transformers_forms=() if is_quantised else ((peers_dtype(), False),),
        prompt_tokens=(64,),
        output_tokens=128,
        concurrencies=(1, 8, 32),
        gguf=_ROUNDED_GGUF[quantization],
        has_peers=not is_quantised,
        quantization=quantization,
        bytes_per_token=0 if is_quantised else 2 * _weights_of(QWEN3_0_6B),
    )


def qwen3_0_6b_stored(work: Path, checkpoint: Checkpoint) -> BenchmarkModel:
    """As `qwen3_0_6b`, stored in 4 bits, against Q4_0 with a head like the checkpoint's own: bfloat16, or the
    six bits that `llama-quantize` gives it."""
    name = f"{_SHAPE}-{checkpoint.value}"
    folder = _folder_with_tokenizer(work / name)
    write_checkpoint(QWEN3_0_6B, checkpoint, folder)
    return BenchmarkModel(
        name,
        folder,
        dummy_weights=False,
        transformers_forms=(),
        prompt_tokens=(64,),
        output_tokens=128,
        concurrencies=(1, 8),
        gguf=GGUFTypes("q4_0", "q6_k" if checkpoint.stores_head else "bf16"),
        is_in_process_too=False,
    )


def _folder_with_tokenizer(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (DEMO / name).exists():
            shutil.copy(DEMO / name, folder / name)
    return folder


def _weights_of(config: Mapping[str, Any]) -> int:
    """That one token is multiplied with: layers and the tied head."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads, d = (
        config[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
    )
    layer = hidden * d * (2 * heads + 2 * kv_heads) + 3 * hidden * inner
    total: int = config["num_hidden_layers"] * layer + config["vocab_size"] * hidden
    return total
