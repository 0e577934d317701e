"""The two models of the CPU benchmark, as folders that both sides load."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import octavo.builtin

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


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """A model folder, the dtypes that transformers may choose from, and the load that fits it."""

    name: str
    folder: Path
    dummy_weights: bool
    baseline_dtypes: tuple[str, ...]
    prompt_tokens: int
    output_tokens: int


def demo_model() -> BenchmarkModel:
    return BenchmarkModel("builtin-demo", DEMO, False, ("float32", "bfloat16"), 32, 128)


def qwen3_0_6b(work: Path) -> BenchmarkModel:
    """Writes the folder into `work`; its tokenizer is the demo model's: only ids are sent."""
    folder = work / "qwen3-0.6b-shape"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(QWEN3_0_6B, indent=1))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (DEMO / name).exists():
            shutil.copy(DEMO / name, folder / name)
    return BenchmarkModel("qwen3-0.6b-shape", folder, True, ("bfloat16",), 64, 48)
