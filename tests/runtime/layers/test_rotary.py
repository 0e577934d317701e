"""Rotary frequencies equal those of transformers, for every scaling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from octavo.layers.rotary import RotaryTable
from octavo.models.config import ConfigReader

SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 1e6},
    {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    {
        "rope_type": "yarn",
        "rope_theta": 1e6,
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
    },
]


def config_of(scaling: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=10,
        hidden_size=256,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=1,
        max_position_embeddings=131072,
        rope_parameters=scaling,
    )


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: f"{s['rope_type']}-{s['rope_theta']:g}")
def test_rotation_equals_transformers(scaling: dict[str, Any]) -> None:
    theirs = config_of(scaling)
    raw = {**theirs.to_dict(), "architectures": ["LlamaForCausalLM"]}
    ours = ConfigReader(raw).decoder("LlamaForCausalLM").rope
    table = RotaryTable(ours, 128, 9000, dtype=torch.float32, device=torch.device("cpu"))
    positions = torch.tensor([0, 1, 17, 900, 8999])
    heads = torch.randn(5, 3, 128)
    rotary = LlamaRotaryEmbedding(theirs)
    cos, sin = rotary(heads, positions[None])
    expected, _ = apply_rotary_pos_emb(heads[None], heads[None], cos, sin, unsqueeze_dim=2)
    rotated = table.rotate_(heads.clone(), *table.at(positions))
    torch.testing.assert_close(rotated, expected[0], rtol=1e-4, atol=1e-4)


def test_the_form_before_transformers_5_means_the_same() -> None:
    new = {
        **config_of(SCALINGS[3]).to_dict(),
        "architectures": ["LlamaForCausalLM"],
    }
    old = {k: v for k, v in new.items() if k != "rope_parameters"}
    scaling = dict(SCALINGS[3])
    old["rope_theta"] = scaling.pop("rope_theta")
    old["rope_scaling"] = scaling
    assert ConfigReader(old).decoder("x").rope == ConfigReader(new).decoder("x").rope
