"""Checkpoints in the formats that quantised weights are published in, made of a plain one by the formats'
definitions, and beside each the plain checkpoint that it stands for.

Nothing here is shared with what reads them: bits are put one by one where the definition says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

SHAPE = {
    "vocab_size": 112,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
}
MOE = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
# What a family's small checkpoint needs beside the sizes.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"tie_word_embeddings": False},
    "mixtral": {"num_local_experts": 3, "num_experts_per_tok": 2},
    "gemma3": {"tie_word_embeddings": False},
    "falcon": {"tie_word_embeddings": False},
    "gpt_neox": {},
    "phi": {},
    "phi3": {"rope_parameters": {"partial_rotary_factor": 0.5}},
    "qwen2_moe": MOE | {"shared_expert_intermediate_size": 64},
    "qwen3_moe": MOE | {"mlp_only_layers": [1]},
}

Tensors = dict[str, torch.Tensor]
Store = Callable[[str, torch.Tensor], tuple[Tensors, torch.Tensor] | None]
"""Of a module's name and its weight: the stored tensors, named behind the module, and the weight that they
stand for; None: it stays as it is."""


@dataclass(frozen=True)
class Grid:
    """`weight[n, k] = (codes[n, k] - zeros[n, group_of[k]]) * scales[n, group_of[k]]`.

    Args:
        codes: `[width, depth]` int64, from 0 on.
        zeros: `[width, groups]` int64, from 0 on.
        group_of: `[depth]` int64.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    group_of: torch.Tensor

    def dequantize(self) -> torch.Tensor:
        columns = self.codes - self.zeros[:, self.group_of]
        return columns * self.scales[:, self.group_of].float()


def round_to_grid(
    weight: torch.Tensor,
    bits: int,
    group: int | None = None,
    *,
    is_symmetric: bool = False,
    order: torch.Tensor | None = None,
    scale_dtype: torch.dtype = torch.float16,
) -> Grid:
    """To nearest, without calibration.

    Args:
        group: Inputs that share a scale; None: all.
        order: Inputs in the order in which they form groups; None: their own.
    """
    depth, top = weight.shape[1], 2**bits - 1
    size = depth if group is None else group
    order = torch.arange(depth) if order is None else order
    group_of = torch.empty(depth, dtype=torch.int64)
    group_of[order] = torch.arange(depth) // size
    scales, zeros = [], []
    for index in range(int(group_of.max()) + 1):
        part = weight[:, group_of == index]
        if is_symmetric:
            scale = (part.abs().amax(dim=1) * 2 / top).to(scale_dtype)
            zero = torch.full_like(scale, (top + 1) // 2, dtype=torch.int64)
        else:
            low, high = part.amin(dim=1).clamp(max=0), part.amax(dim=1).clamp(min=0)
            scale = ((high - low) / top).to(scale_dtype)
            # Neither end: as the oldest form of GPTQ stores zeros, those would be ambiguous.
            zero = (-low / scale.float()).round().long().clamp(1, top)
        scales.append(scale)
        zeros.append(zero)
    stacked_scales, stacked_zeros = torch.stack(scales, 1), torch.stack(zeros, 1)
    steps = weight / stacked_scales[:, group_of].float()
    codes = (steps.round().long() + stacked_zeros[:, group_of]).clamp(0, top)
    return Grid(codes, stacked_scales, stacked_zeros, group_of)


def bit_stream(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Rows of `[rows, count]` as one stream of bits each, lowest first, in int32 words."""
    places = (values.numpy()[:, :, None] >> np.arange(bits)) & 1
    stream = places.reshape(len(values), -1).astype(np.uint8)
    stream = np.pad(stream, ((0, 0), (0, -stream.shape[1] % 32)))
    words = np.packbits(stream, axis=1, bitorder="little").view(np.int32)
    return torch.from_numpy(words.copy())


def awq_words(values: torch.Tensor) -> torch.Tensor:
    """Of `[rows, count]`: eight columns to a word, as AutoAWQ's `gemm` wants them."""
    words = torch.zeros(len(values), values.shape[1] // 8, dtype=torch.int64)
    for place, column in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
        words |= values[:, column::8] << (4 * place)
    return words.to(torch.int32)


def awq_tensors(grid: Grid) -> Tensors:
    return {
        "qweight": awq_words(grid.codes.T),
        "qzeros": awq_words(grid.zeros.T),
        "scales": grid.scales.T.contiguous(),
    }


def gptq_tensors(grid: Grid, bits: int, *, zero_offset: int) -> Tensors:
    """`zero_offset`: 1 in the older form, 0 in gptq_v2."""
    return {
        "qweight": bit_stream(grid.codes, bits).T.contiguous(),
        "qzeros": bit_stream(grid.zeros.T - zero_offset, bits),
        "scales": grid.scales.T.contiguous(),
        "g_idx": grid.group_of.to(torch.int32),
    }


def packed_tensors(grid: Grid, bits: int, *, has_zeros: bool, has_order: bool = False) -> Tensors:
    """Of compressed-tensors' pack-quantized."""
    tensors = {
        "weight_packed": bit_stream(grid.codes, bits),
        "weight_scale": grid.scales,
        "weight_shape": torch.tensor(grid.codes.shape),
    }
    if has_zeros:
        tensors["weight_zero_point"] = bit_stream(grid.zeros.T, bits).T.contiguous()
    if has_order:
        tensors["weight_g_idx"] = grid.group_of.to(torch.int32)
    return tensors


def int8_tensors(grid: Grid, bits: int, *, has_zeros: bool) -> Tensors:
    """Of compressed-tensors' int-quantized."""
    half = 1 << (bits - 1)
    tensors = {"weight": (grid.codes - half).to(torch.int8), "weight_scale": grid.scales}
    if has_zeros:
        tensors["weight_zero_point"] = (grid.zeros - half).to(torch.int8)
    return tensors


def float8_weight(
    weight: torch.Tensor,
    outputs: int | None,
    inputs: int | None,
    scale_dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, one scale for each block, and the weight that they stand for.

    Args:
        outputs, inputs: Of a block; None: all.
        scale_dtype: float8_e8m0fnu: powers of two.
    """
    width, depth = weight.shape
    rows, columns = outputs or width, inputs or depth
    codes = torch.empty(width, depth, dtype=torch.float8_e4m3fn)
    scales = torch.empty(-(-width // rows), -(-depth // columns), dtype=scale_dtype)
    dequantised = torch.empty_like(weight)
    for row in range(scales.shape[0]):
        for column in range(scales.shape[1]):
            at = np.s_[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
            scale = weight[at].abs().max() / 448
            if scale_dtype is torch.float8_e8m0fnu:
                scale = torch.exp2(torch.ceil(torch.log2(scale)))
            scales[row, column] = scale
            codes[at] = (weight[at] / scales[row, column].float()).to(codes.dtype)
            dequantised[at] = codes[at].float() * scales[row, column].float()
    return codes, scales, dequantised


def quantise_checkpoint(plain: Path, target: Path, store: Store, config: Mapping[str, Any]) -> Path:
    """Writes the checkpoint in `plain` to `target`, quantised; returns the plain one that it stands for.

    Args:
        store: Asked for every matrix but the token embeddings'.
        config: `quantization_config`.
    """
    reference = target.with_name(f"{target.name}-dequantised")
    for folder in (target, reference):
        shutil.copytree(plain, folder)
    stored: Tensors = {}
    dequantised: Tensors = {}
    for name, tensor in load_file(plain / "model.safetensors").items():
        module = name.removesuffix(".weight")
        is_table = "embed" in name or module.endswith("wte")
        is_matrix = module != name and tensor.dim() == 2 and not is_table
        found = store(module, tensor.float()) if is_matrix else None
        if found is None:
            stored[name] = dequantised[name] = tensor
            continue
        tensors, dequantised[name] = found
        stored |= {f"{module}.{part}": value for part, value in tensors.items()}
    save_file(dequantised, reference / "model.safetensors", metadata={"format": "pt"})
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    path = target / "config.json"
    raw = json.loads(path.read_text()) | {"quantization_config": dict(config)}
    path.write_text(json.dumps(raw))
    return reference


def is_product(module: str) -> bool:
    """Neither a head nor a router."""
    return "lm_head" not in module and not module.endswith(("gate", "router"))
