from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import InvalidConfigurationError, OutOfMemoryError
from octavo.worker.start.memory import (
    BudgetSource,
    KVCacheSize,
    bytes_per_block,
    check_cache_fits,
    check_length_fits,
    format_bytes,
    host_cache_budget,
    room_on_gpu,
    room_on_host,
    size_kv_cache,
)

GIB = 2**30


def size(
    budget: int,
    wanted: int | None = None,
    model: int = 1000,
    block: int = 100,
    seqs: int = 8,
    source: BudgetSource = BudgetSource.FLAG,
) -> KVCacheSize:
    return size_kv_cache(
        budget_bytes=budget,
        block_bytes=block,
        block_size=16,
        max_num_seqs=seqs,
        model_max_len=model,
        wanted_max_len=wanted,
        source=source,
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


@pytest.mark.parametrize(
    ("source", "said", "not_said"),
    [
        (BudgetSource.FLAG, "raise --kv-cache-memory to 2Mi", "utilization"),
        (BudgetSource.HOST_SHARE, "set --kv-cache-memory to at least 2Mi", "utilization"),
        (BudgetSource.GPU_SHARE, "raise --gpu-memory-utilization", "raise --kv-cache-memory"),
    ],
)
@pytest.mark.parametrize("budget", [0, 3 * 2**19])
def test_the_message_names_the_flag_that_bound_the_budget(
    budget: int, source: BudgetSource, said: str, not_said: str
) -> None:
    with pytest.raises(OutOfMemoryError) as error:
        size(budget, wanted=33, block=2**19 + 1, source=source)
    message = str(error.value)
    assert said.lower() in message.lower()
    assert not_said not in message
    assert ("1.50 MiB" if budget else "0 bytes") in message


def test_small_sizes_are_told_in_small_units() -> None:
    sizes = [16 * GIB + GIB // 16, 2**30 - 1, 24 * 2**20, 2**10, 3, -7]
    told = ["16.06 GiB", "1024.00 MiB", "24.00 MiB", "1.00 KiB", "3 bytes", "0 bytes"]
    assert [format_bytes(one) for one in sizes] == told


@pytest.mark.parametrize("budget", [99, 0, -5])
def test_not_even_one_block(budget: int) -> None:
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        size(budget)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        size(budget, wanted=10)


def test_a_context_of_a_few_tokens_is_had_by_who_asks_for_it_alone() -> None:
    with pytest.raises(OutOfMemoryError) as error:
        size(3 * 2**20, block=2**20)
    assert "which holds 48 tokens" in str(error.value)
    assert "Raise --kv-cache-memory to 4Mi; or set --max-model-len 48" in str(error.value)
    assert size(3 * 2**20, block=2**20, wanted=48).max_model_len == 48
    assert size(4 * 2**20, block=2**20).max_model_len == 64
    assert size(3 * 2**20, block=2**20, model=40).max_model_len == 40  # all that the model has


def test_longer_than_the_model_knows() -> None:
    with pytest.raises(InvalidConfigurationError, match=r"1000 positions.*Use at most 1000\."):
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
            size(budget, int(found[1]), model, block, seqs)
    else:
        assert result.num_blocks * block <= budget
        assert result.num_blocks * 16 >= result.max_model_len
        assert 1 <= result.max_model_len <= model


def room(weights: int, utilization: float = 0.9) -> int:
    return room_on_gpu(
        weight_bytes=weights * GIB,
        free_bytes=90 * GIB,
        total_bytes=100 * GIB,
        utilization=utilization,
    )


def test_weights_that_do_not_fit_a_gpu_are_told_with_what_would_help() -> None:
    assert room(60) // GIB == 20  # 90 free, 10 to stay free, 60 of weights
    with pytest.raises(OutOfMemoryError, match=r"take 82.00 GiB.*raise --gpu-memory-utilization"):
        room(82)
    assert room(82, utilization=0.95) // GIB == 3
    with pytest.raises(OutOfMemoryError, match="larger GPU") as error:
        room(100)
    assert "utilization" not in str(error.value)


def test_weights_that_do_not_fit_a_pod_are_told_with_what_would_help() -> None:
    rounded = {"int8": 8 * GIB, "int4": 4 * GIB}
    assert room_on_host(weight_bytes=5 * GIB, available_bytes=8 * GIB) == 3 * GIB

    def told(available: int) -> str:
        with pytest.raises(OutOfMemoryError, match=r"weights take 16.00 GiB") as error:
            room_on_host(weight_bytes=16 * GIB, available_bytes=available * GIB, rounded=rounded)
        return str(error.value)

    assert "--quantization int8, which takes 8.00 GiB" in told(10)
    assert "6.00 GiB more" in told(10)
    assert "--quantization int4" in told(5)
    assert "--quantization" not in told(3)


def test_a_pods_cache_gets_a_share_of_what_weights_leave() -> None:
    assert host_cache_budget(5 * GIB) == 2 * GIB
    assert host_cache_budget(100 * GIB) == 4 * GIB
    check_cache_fits(cache_bytes=5 * GIB, room_bytes=5 * GIB)
    with pytest.raises(OutOfMemoryError, match=r"takes 6.00 GiB.*leave 5.00 GiB"):
        check_cache_fits(cache_bytes=6 * GIB, room_bytes=5 * GIB)


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
