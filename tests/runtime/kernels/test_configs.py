"""Which block sizes a GPU gets: that they fit it is for the gate of compiled kernels to say."""

from __future__ import annotations

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.tuning.attention import decode_config, prefill_config
from octavo.kernels.gpu.tuning.chips import ChipFamily, family_of, max_shared_bytes

BF16, FP16, FP32, FP8 = torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn
HEAD_DIMS = (16, 64, 80, 128, 136, 256)


@pytest.mark.parametrize("capability", [86, 89, 120, 121, 999])
def test_a_later_chip_may_have_less_shared_memory(capability: int) -> None:
    """And one that is not known here is taken for one that has little."""
    assert family_of(capability) is ChipFamily.COMPACT
    assert max_shared_bytes(capability) == 101_376 < max_shared_bytes(80) < max_shared_bytes(90)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
@pytest.mark.parametrize("other", [BF16, FP16, FP8])
def test_float32_on_either_side_takes_the_sizes_of_float32(
    capability: int, head_dim: int, other: torch.dtype
) -> None:
    def sizes(dtype: torch.dtype, cache_dtype: torch.dtype) -> tuple[object, ...]:
        return (
            decode_config(capability, head_dim, dtype, cache_dtype),
            *(prefill_config(capability, head_dim, dtype, cache_dtype, n) for n in (32, 8192)),
        )

    assert sizes(FP32, other) == sizes(FP32, FP32) != sizes(BF16, other)
    if other is not FP8:
        assert sizes(other, FP32) == sizes(FP32, FP32)


def test_the_chips_differ_where_their_memory_and_instructions_do() -> None:
    def prefill(capability: int, head_dim: int) -> object:
        return prefill_config(capability, head_dim, BF16, BF16, 8192)

    assert prefill(89, 256) != prefill(80, 256)
    assert prefill(120, 128) == prefill(80, 128) != prefill(90, 128)


@pytest.mark.parametrize("head_dim", [8, 100, 264])
def test_a_head_that_no_kernel_takes_is_refused(head_dim: int) -> None:
    with pytest.raises(ValueError, match=f"head_dim {head_dim}"):
        decode_config(90, head_dim, BF16, BF16)
