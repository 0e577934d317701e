"""LoRA adapters as PEFT saves them, with random matrices, and the model that one of them is merged into."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

# Linear modules that adapters leave alone: heads and routers.
_LEFT = {"lm_head", "embed_out", "gate", "shared_expert_gate"}


def targets_of(model: Any) -> list[str]:
    """Linear modules that an adapter may change."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name.rpartition(".")[2] not in _LEFT
    ]


def save_adapter(
    folder: Path,
    model: Any,
    *,
    rank: int = 4,
    seed: int = 1,
    picks: Callable[[str], bool] = lambda module: True,
    **fields: Any,
) -> Any:
    """Saves an adapter of `model` to `folder` and returns transformers' model with it merged: W + s B A.

    Args:
        picks: Modules that it changes.
        fields: Of adapter_config.json.
    """
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, **fields}
    generator = torch.Generator().manual_seed(seed)
    merged = copy.deepcopy(model)
    tensors: dict[str, torch.Tensor] = {}
    for name in filter(picks, targets_of(model)):
        module = merged.get_submodule(name)
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        own = _of_module(config.get("rank_pattern") or {}, name, rank)
        alpha = _of_module(config.get("alpha_pattern") or {}, name, config["lora_alpha"])
        down = torch.randn(own, weight.shape[1], generator=generator) / math.sqrt(weight.shape[1])
        up = torch.randn(weight.shape[0], own, generator=generator) * weight.std().item()
        scale = alpha / (math.sqrt(own) if config.get("use_rslora") else own)
        with torch.no_grad():
            weight += scale * (up @ down)
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return merged


def _of_module(patterns: dict[str, Any], name: str, default: Any) -> Any:
    return next((value for end, value in patterns.items() if name.endswith(end)), default)
