"""The rooflines, held against figures worked out by hand for a GPU of 4.3 TB/s and 790 TFLOP/s."""

from __future__ import annotations

import pytest

from benchmarks.gpu.formulas import (
    ModelShape,
    Roofline,
    attention_bytes,
    decode_step_seconds,
    distinct_experts,
    model_flops_utilisation,
    prefill_operations,
)
from benchmarks.gpu.models import shape_of

H200 = Roofline(bandwidth=4.3e12, matrix_rate=790e12)


@pytest.mark.parametrize(
    ("model", "batch", "tokens_per_second"),
    [
        ("llama-3.1-8b", 1, 284),
        ("llama-3.1-8b", 32, 7_128),
        ("llama-3.1-8b", 256, 19_915),
        ("qwen3-0.6b", 1, 3_284),
        ("qwen3-0.6b", 32, 27_800),
        ("qwen3-0.6b", 256, 34_700),
        ("mixtral-8x7b", 1, 168),
        ("mixtral-8x7b", 32, 1_412),
        ("mixtral-8x7b", 256, 8_634),
    ],
)
def test_decode_roofline_at_1k_context(model: str, batch: int, tokens_per_second: float) -> None:
    seconds = decode_step_seconds(shape_of(model), batch, 1024, H200)
    assert batch / seconds == pytest.approx(tokens_per_second, rel=0.005)


@pytest.mark.parametrize(
    ("model", "tokens_per_second"),
    [("llama-3.1-8b", 55_500), ("qwen3-0.6b", 791_000), ("mixtral-8x7b", 31_000)],
)
def test_prefill_at_full_matrix_rate(model: str, tokens_per_second: float) -> None:
    seconds = prefill_operations(shape_of(model), 1024) / H200.matrix_rate
    assert 1024 / seconds == pytest.approx(tokens_per_second, rel=0.005)


def test_prefill_twice_as_slow_as_the_ceiling_has_half_the_utilisation() -> None:
    shape = shape_of("llama-3.1-8b")
    seconds = 2 * 8 * prefill_operations(shape, 1024) / H200.matrix_rate
    assert model_flops_utilisation(shape, 8, 1024, seconds, H200) == pytest.approx(0.5)


def test_llama_has_its_published_number_of_parameters() -> None:
    shape = shape_of("llama-3.1-8b")
    norms = 4096 * (2 * 32 + 1)
    assert shape.weights_per_token + 2 * shape.head_weights + norms == 8_030_261_248


def test_fp8_cache_halves_the_bytes_of_a_token() -> None:
    shape = shape_of("llama-3.1-8b")
    assert shape.kv_bytes_per_token() == 131_072
    assert shape.kv_bytes_per_token(element_bytes=1) == 65_536


def test_a_small_batch_reads_few_experts_and_a_large_one_all() -> None:
    shape = shape_of("mixtral-8x7b")
    assert distinct_experts(shape, 1) == pytest.approx(2)
    assert distinct_experts(shape, 2) == pytest.approx(3.5)  # 8 · (1 - 0.75²)
    assert distinct_experts(shape, 256) == pytest.approx(8)


def test_a_dense_model_is_one_expert_without_a_router() -> None:
    shape = ModelShape(8, 16, 1, 2, 1, 4, 32)
    assert distinct_experts(shape, 5) == 1
    assert shape.weights_per_token == 8 * (8 + 8 + 4 + 4) + 3 * 8 * 16


def test_attention_bytes_are_keys_values_queries_and_outputs() -> None:
    # 4 KiB of keys and values a token for 8 heads of 128; 8 KiB of query and as much output a row.
    assert attention_bytes(2, 100, 32, 8, 128, 2) == 2 * (100 * 4096 + 2 * 8192)
