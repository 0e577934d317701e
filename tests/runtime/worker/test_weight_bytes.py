"""What config.json says of the memory that weights take."""

from __future__ import annotations

import pytest
import torch

from octavo.config import Quantization
from octavo.models.base import ModelConfig
from octavo.models.registry import read_config
from octavo.quantization import WeightOnly
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes
from tests.support.requirements import Requirement, needs_module


def llama(**changes: object) -> ModelConfig:
    """Llama-3.1-8B."""
    fields: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    return read_config(fields | changes)


def test_llama_8b_in_16_bits() -> None:
    norms = 4096 * (2 * 32 + 1)
    assert weight_bytes(llama(), torch.bfloat16) == 2 * (8_030_261_248 - norms)


def test_biases_count_and_a_model_that_embeds_has_one_table() -> None:
    biases = 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)
    plain = weight_bytes(llama(), torch.bfloat16)
    with_biases = llama(attention_bias=True, mlp_bias=True)
    assert weight_bytes(with_biases, torch.bfloat16) - plain == 2 * biases
    embeds = llama(architectures=["LlamaModel"])
    assert plain - weight_bytes(embeds, torch.bfloat16) == 2 * 128256 * 4096


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(
    ("quantization", "each"), [(Quantization.INT8, 1.0), (Quantization.INT4, 4.5 / 8)]
)
def test_tables_have_eight_bits_at_least(
    quantization: Quantization, each: float, is_tied: bool
) -> None:
    """int4 has a scale of 16 bits for every 32 weights, int8 one of 32 bits for every output feature."""
    needs_module(Requirement.NUMBA)
    table = 128256 * 4096
    products = 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    scales = 0
    if quantization is Quantization.INT8:
        scales = 4 * 32 * (4096 + 2 * 1024 + 4096 + 2 * 14336 + 4096)
    tables = table + 4 * 128256 + (0 if is_tied else 2 * table)
    config = llama(tie_word_embeddings=is_tied)
    expected = int(products * each) + scales + tables
    assert weight_bytes(config, torch.bfloat16, WeightOnly(quantization)) == expected


def test_weights_that_fit_no_panels_count_as_they_stay() -> None:
    """Inputs of 24 are no group of int4, and a vocabulary of 100 no sixteens: the head stays as it is."""
    needs_module(Requirement.NUMBA)
    config = llama(
        vocab_size=100,
        hidden_size=24,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    panels = (
        32 * 3 * 24 + 4 * 96 + 32 * 4 * 24 + 4 * 128
    )  # queries, keys and values; gate and up: int8
    stay = 2 * 24 * (32 + 64)  # output and down: 24 features
    tables = 2 * 2 * 100 * 24
    found = weight_bytes(config, torch.bfloat16, WeightOnly(Quantization.INT4))
    assert found == panels + stay + tables


def test_no_way_is_offered_that_would_be_refused() -> None:
    needs_module(Requirement.NUMBA)
    assert rounded_weight_bytes(llama(), torch.bfloat16).keys() == {"int8", "int4"}
    assert rounded_weight_bytes(llama(), torch.float16) == {}
