"""Models of the GPU benchmark, as folders that Octavo and transformers load with random weights.

The shapes are those of the published config.json files; speed does not depend on the values.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cpu.models import DEMO, QWEN3_0_6B
from benchmarks.gpu.formulas import ModelShape

LLAMA_3_1_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "dtype": "bfloat16",
}

MIXTRAL_8X7B: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
}

# For `--smoke`: the families of the real ones, small enough for two cores.
_TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "dtype": "float32",
}
TINY_LLAMA = {**LLAMA_3_1_8B, **_TINY, "rope_scaling": None, "bos_token_id": 1, "eos_token_id": 2}
TINY_MIXTRAL = {**MIXTRAL_8X7B, **_TINY, "num_local_experts": 4}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "llama-3.1-8b": LLAMA_3_1_8B,
    "qwen3-0.6b": QWEN3_0_6B,
    "mixtral-8x7b": MIXTRAL_8X7B,
    "tiny-llama": TINY_LLAMA,
    "tiny-mixtral": TINY_MIXTRAL,
}


def write_folder(name: str, work: Path) -> Path:
    """The model's folder under `work`; its tokenizer is the demo model's: only ids are sent."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name], indent=1))
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (DEMO / file).exists():
            shutil.copy(DEMO / file, folder / file)
    return folder


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_config(CONFIGS[name])
