from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.worker.memory import (
    KVCacheSize,
    bytes_per_block,
    check_length_fits,
    room_beside_weights,
    size_kv_cache,
)


def size(
    budget: int, wanted: int | None = None, model: int = 1000, block: int = 100, seqs: int = 8
) -> KVCacheSize:
    return size_kv_cache(
        budget_bytes=budget,
        block_bytes=block,
        block_size=16,
        max_num_seqs=seqs,
        model_max_len=model,
        wanted_max_len=wanted,
    )


def test_llama_8b_takes_two_mebibytes_a_block() -> None:
    block = bytes_per_block(
        block_size=16, num_layers=32, num_kv_heads=8, head_dim=128, element_bytes=2
    )
    assert block == 2 * 2**20


def test_default_length_is_the_models_when_it_fits() -> None:
    assert size(63 * 100) == KVCacheSize(num_blocks=63, max_model_len=1000, is_capped=False)


def test_default_length_is_capped_by_the_cache() -> None:
    assert size(10 * 100 + 99) == KVCacheSize(num_blocks=10, max_model_len=160, is_capped=True)


def test_no_more_blocks_than_the_sequences_can_fill() -> None:
    assert size(10**9, wanted=40, seqs=4).num_blocks == 12


def test_the_message_names_the_length_that_fits() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-model-len 160"):
        size(1000, wanted=161)
    assert size(1000, wanted=160).max_model_len == 160


@pytest.mark.parametrize("budget", [99, 0, -5])
def test_not_even_one_block(budget: int) -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        size(budget)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        size(budget, wanted=10)


def test_longer_than_the_model_knows() -> None:
    with pytest.raises(InvalidConfigurationError, match="1000 positions"):
        size(10**9, wanted=1001)


@given(
    budget=st.integers(-10, 10**6),
    wanted=st.none() | st.integers(1, 2000),
    model=st.integers(1, 2000),
    block=st.integers(1, 500),
    seqs=st.integers(1, 50),
)
def test_what_is_promised_fits(
    budget: int, wanted: int | None, model: int, block: int, seqs: int
) -> None:
    try:
        result = size(budget, wanted, model, block, seqs)
    except InvalidConfigurationError:
        assert wanted is not None
        assert wanted > model
    except OutOfMemoryError as error:
        if (found := re.search(r"--max-model-len (\d+)", str(error))) is not None:
            assert size(budget, int(found[1]), model, block, seqs)
    else:
        assert result.num_blocks * block <= budget
        assert result.num_blocks * 16 >= result.max_model_len
        assert 1 <= result.max_model_len <= model


def room(num_parameters: int, free: int = 90, utilization: float = 0.9) -> int:
    return room_beside_weights(
        num_parameters=num_parameters,
        element_bytes=2,
        free_bytes=free * 2**30,
        total_bytes=100 * 2**30,
        utilization=utilization,
    )


def test_weights_that_do_not_fit_are_told_with_what_would_help() -> None:
    assert room(30 * 2**30) // 2**30 == 20  # 90 free, 10 to stay free, 60 of weights
    with pytest.raises(OutOfMemoryError, match=r"take 82.00 GiB.*raise --gpu-memory-utilization"):
        room(41 * 2**30)
    assert room(41 * 2**30, utilization=0.95) // 2**30 == 3
    with pytest.raises(OutOfMemoryError, match="larger GPU") as error:
        room(50 * 2**30)
    assert "utilization" not in str(error.value)


def test_a_length_that_cannot_fit_is_told_before_loading() -> None:
    def check(wanted: int) -> None:
        check_length_fits(
            room_bytes=1000,
            reserve_bytes=300,
            block_bytes=100,
            block_size=16,
            wanted_max_len=wanted,
        )

    check(160)  # ten blocks: activations will not fit beside them, but that is measured later
    with pytest.raises(OutOfMemoryError, match="--max-model-len 112"):
        check(161)
