"""Models as they are published, and GPUs, for tests that need the shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.models import CONFIGS
from octavo.models.base import ModelConfig
from octavo.models.registry import read_model_config
from octavo.worker.compile_ahead.absent_gpu import Chip

H100 = Chip(capability=90, num_multiprocessors=132)
A100 = Chip(capability=80, num_multiprocessors=108)

GEMMA_2_9B = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
SMOLLM_135M = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    **{name: CONFIGS[name] for name in ("llama-3.1-8b", "qwen3-0.6b", "mixtral-8x7b")},
    "gemma-2-9b": GEMMA_2_9B,
}


def shape_of(config: Mapping[str, Any], folder: Path) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(config))
    return read_model_config(folder)
