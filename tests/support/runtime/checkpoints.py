"""Small real checkpoints with random weights, made by transformers, which is the reference as well."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import transformers

VOCAB = 97


def make_checkpoint(folder: Path, family: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """Saves a tiny model to `folder` and returns transformers' own instance of it, fp32."""
    classes = {
        "bloom": (transformers.BloomConfig, transformers.BloomForCausalLM),
        "mpt": (transformers.MptConfig, transformers.MptForCausalLM),
        "gpt_neox": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM),
        "granite": (transformers.GraniteConfig, transformers.GraniteForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "phi": (transformers.PhiConfig, transformers.PhiForCausalLM),
        "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "falcon": (transformers.FalconConfig, transformers.FalconForCausalLM),
        "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
        "qwen2_moe": (transformers.Qwen2MoeConfig, transformers.Qwen2MoeForCausalLM),
        "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "mixtral": (transformers.MixtralConfig, transformers.MixtralForCausalLM),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    }
    config_class, model_class = classes[family]
    values: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "pad_token_id": 0,
        # Weights large enough that attention is peaked: with 0.02 every position looks alike.
        "initializer_range": 0.25,
    }
    if family == "mistral":
        values["sliding_window"] = None
    # A class keeps what it does not know, and its modules find some of that.
    known = {field.name for field in dataclasses.fields(config_class)}
    known |= config_class.attribute_map.keys()
    changes = {n: value for n, value in changes.items() if n in known or n not in values}
    values = {name: value for name, value in values.items() if name in known}
    torch.manual_seed(seed)
    # Attention spelt out: torch's fused form leaves out Gemma's cap on the scores.
    values = {**values, **changes}
    # transformers' spelt out attention adds Falcon's linear biases twice.
    spelt_out = "sdpa" if family == "falcon" and values.get("alibi") else "eager"
    config = config_class(**values, attn_implementation=spelt_out)
    model = model_class(config).eval()
    randomise_vectors(model)
    model.save_pretrained(folder)
    return model


def save_word_tokenizer(folder: Path) -> None:
    """One that has a word for each token: what needs a tokenizer starts with it."""
    words = {f"t{i}": i for i in range(VOCAB)}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "t0"}
    text = json.dumps({"version": "1.0", "added_tokens": [], "model": model})
    (folder / "tokenizer.json").write_text(text)


def randomise_vectors(model: torch.nn.Module) -> None:
    """Norms start as ones and biases as zeros, which would hide a swapped or a forgotten one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(0.0, 0.3)
            elif parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)


# The published model's, but for the head's divisor, which a tiny one says little behind.
GRANITE = {
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.22,
    "logits_scaling": 2.0,
}

# Caps that the scores do reach, and a scale that is not the head size's.
GEMMA2 = {
    "head_dim": 16,
    "sliding_window": 23,
    "query_pre_attn_scalar": 24,
    "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 4.0,
    "hidden_activation": "gelu_pytorch_tanh",
    # Tied, a tiny random model says its last token for ever.
    "tie_word_embeddings": False,
}
