"""What config.json says of the memory that weights take is what loading them takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from octavo.config import Quantization
from octavo.models.config import DecoderConfig
from octavo.models.registry import read_model_config
from octavo.worker.start.weight_bytes import rounded_weight_bytes, weight_bytes
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def shape(tmp_path_factory: pytest.TempPathFactory) -> DecoderConfig:
    """Llama-3.1-8B's."""
    folder: Path = tmp_path_factory.mktemp("llama")
    make_checkpoint(folder, num_hidden_layers=1)
    return dataclasses.replace(
        read_model_config(folder),
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        tie_word_embeddings=False,
    )


def test_llama_8b_in_16_bits(shape: DecoderConfig) -> None:
    norms = 4096 * (2 * 32 + 1)
    assert weight_bytes(shape, torch.bfloat16) == 2 * (8_030_261_248 - norms)


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize(
    ("quantization", "each"), [(Quantization.INT8, 1.0), (Quantization.INT4, 4.5 / 8)]
)
def test_tables_have_eight_bits_at_least(
    shape: DecoderConfig, quantization: Quantization, each: float, is_tied: bool
) -> None:
    """int4 has a scale of 16 bits for every 32 weights."""
    needs_module(Requirement.NUMBA)
    shape = dataclasses.replace(shape, tie_word_embeddings=is_tied)
    table = 128256 * 4096
    products = 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    tables = table if is_tied else table + 2 * table
    expected = products * each + tables
    assert weight_bytes(shape, torch.bfloat16, quantization) == int(expected)


def test_no_way_is_offered_that_would_be_refused(shape: DecoderConfig) -> None:
    needs_module(Requirement.NUMBA)
    assert rounded_weight_bytes(shape, torch.bfloat16).keys() == {"int8", "int4"}
    assert rounded_weight_bytes(shape, torch.float16) == {}
