"""Checkpoints of the Qwen3 shape as they are published in 4 bits, with random words: AWQ, GPTQ and
compressed-tensors' pack-quantized, in groups of 128.

Speed depends on neither codes nor scales, but on what the format has: AWQ's zeros are integers of their own,
the other two are symmetric.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

GROUP = 128
_SCALE = 0.003
"""Codes of four bits times this are weights of about 0.02, as the other sides' are."""


class Checkpoint(enum.Enum):
    """The value names it on the command line. A format's second form stores the head as well, which its
    embeddings are not tied to then."""

    AWQ = "awq"
    GPTQ = "gptq"
    COMPRESSED_TENSORS = "compressed-tensors"
    GPTQ_HEAD = "gptq-lm-head"
    COMPRESSED_TENSORS_HEAD = "compressed-tensors-lm-head"

    @property
    def stores_head(self) -> bool:
        return self in {Checkpoint.GPTQ_HEAD, Checkpoint.COMPRESSED_TENSORS_HEAD}


def write_checkpoint(config: Mapping[str, Any], checkpoint: Checkpoint, folder: Path) -> None:
    """Writes config.json and model.safetensors.

    GPTQ stores a head in the bits of all else; compressed-tensors' gets a group of 8 bits of its own, which
    is as near to Q6_K as the format has whole bytes for.
    """
    tied = {"tie_word_embeddings": not checkpoint.stores_head}
    quantized = {"quantization_config": _quantization_config(checkpoint)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, **tied, **quantized}, indent=1))
    torch.manual_seed(0)
    tensors = dict(_plain_tensors(config))
    for name, width, depth in _products(config):
        tensors |= _named(name, _stored(checkpoint, width, depth))
    if checkpoint.stores_head:
        size = config["vocab_size"], config["hidden_size"]
        is_packed = checkpoint is Checkpoint.COMPRESSED_TENSORS_HEAD
        head = _packed(*size, bits=8) if is_packed else _stored(checkpoint, *size)
        tensors |= _named("lm_head", head)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _quantization_config(checkpoint: Checkpoint) -> dict[str, Any]:
    if checkpoint is Checkpoint.AWQ:
        return {"quant_method": "awq", "version": "gemm", "zero_point": True} | _four_bits()
    if checkpoint in {Checkpoint.GPTQ, Checkpoint.GPTQ_HEAD}:
        form = {"quant_method": "gptq", "checkpoint_format": "gptq", "sym": True, "desc_act": False}
        return form | _four_bits() | {"lm_head": checkpoint.stores_head}
    groups = {"group_0": _config_group("re:.*layers.*", num_bits=4, strategy="group")}
    groups["group_0"]["weights"]["group_size"] = GROUP
    if checkpoint.stores_head:
        groups["group_1"] = _config_group("lm_head", num_bits=8, strategy="channel")
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [] if checkpoint.stores_head else ["lm_head"],
    }


def _four_bits() -> dict[str, Any]:
    return {"bits": 4, "group_size": GROUP}


def _config_group(target: str, **weights: Any) -> dict[str, Any]:
    return {"targets": [target], "weights": {"type": "int", "symmetric": True, **weights}}


def _plain_tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    table = torch.empty(config["vocab_size"], hidden, dtype=torch.bfloat16).normal_(std=0.02)
    yield "model.embed_tokens.weight", table
    yield "model.norm.weight", _ones(hidden)
    for layer in range(config["num_hidden_layers"]):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{norm}.weight", _ones(hidden)
        for norm in ("q_norm", "k_norm"):
            yield f"model.layers.{layer}.self_attn.{norm}.weight", _ones(head_dim)


def _products(config: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Names, outputs and inputs of all linear modules in the layers."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    query_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    sizes = {
        "self_attn.q_proj": (query_width, hidden),
        "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden),
        "self_attn.o_proj": (hidden, query_width),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, (width, depth) in sizes.items():
            yield f"model.layers.{layer}.{name}", width, depth


def _stored(checkpoint: Checkpoint, width: int, depth: int) -> dict[str, torch.Tensor]:
    if checkpoint is Checkpoint.AWQ:
        return {
            "qweight": _words(depth, width // 8),
            "qzeros": _words(depth // GROUP, width // 8),
            "scales": _scales(depth // GROUP, width, torch.float16),
        }
    if checkpoint in {Checkpoint.GPTQ, Checkpoint.GPTQ_HEAD}:
        zeros = torch.full((depth // GROUP, width // 8), 0x77777777, dtype=torch.int32)
        return {
            "qweight": _words(depth // 8, width),
            "qzeros": zeros,  # 8, less the one that this form takes off
            "scales": _scales(depth // GROUP, width, torch.float16),
            "g_idx": torch.arange(depth, dtype=torch.int32) // GROUP,
        }
    return _packed(width, depth, bits=4)


def _packed(width: int, depth: int, *, bits: int) -> dict[str, torch.Tensor]:
    """compressed-tensors': of eight bits a scale for each output, of four one for each group."""
    groups = depth // GROUP if bits == 4 else 1
    scales = _scales(width, groups, torch.bfloat16)
    return {
        "weight_packed": _words(width, depth * bits // 32),
        "weight_scale": scales if bits == 4 else scales / 16,
        "weight_shape": torch.tensor([width, depth]),
    }


def _words(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32)


def _scales(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((rows, columns), _SCALE, dtype=dtype)


def _ones(size: int) -> torch.Tensor:
    return torch.ones(size, dtype=torch.bfloat16)


def _named(module: str, parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{module}.{part}": tensor for part, tensor in parts.items()}
