"""A cache of more than 2**31 elements: what lies beyond is found and written where it belongs.

A layer's cache of a Llama-8B is that large on one big GPU. Memory that nobody touches costs nothing, and
offsets that wrap around land before the cache, in memory of the test's own.
"""

from __future__ import annotations

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.reference.attention.paged_decode import paged_decode as reference_decode
from octavo.kernels.reference.attention.paged_prefill import paged_prefill as reference_prefill
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.attention.decode_schedule import make_decode_workspace, schedule_decode
from octavo.kernels.gpu.attention.paged_decode import paged_decode
from octavo.kernels.gpu.attention.paged_prefill import paged_prefill
from octavo.kernels.gpu.attention.rope_and_cache import rope_and_cache

PAGE, HEAD_DIM = 16, 64
FIRST = 2**31 // (PAGE * 2 * HEAD_DIM)
"""The first block whose elements lie beyond."""
BLOCKS = 4
OPTIONS = AttentionOptions(scale=0.125)


def small_and_large(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """`[4, 16, 2, 1, 64]` random, and a cache too large for 32 bits whose last blocks are the same."""
    generator = torch.Generator().manual_seed(3)
    small = torch.randn(BLOCKS, PAGE, 2, 1, HEAD_DIM, generator=generator)
    small = small.to(torch.float8_e4m3fn).to(device)
    memory = torch.empty(2**32 + small.numel(), dtype=torch.uint8, device=device)
    large = memory[2**31 :].view(torch.float8_e4m3fn).view(-1, *small.shape[1:])
    large.view(torch.uint8)[FIRST:] = small.view(torch.uint8)
    return small, large


def test_decodes_read_blocks_beyond_32_bits(device: torch.device) -> None:
    small, large = small_and_large(device)
    query = torch.randn(2, 2, HEAD_DIM).half().to(device)
    tables = torch.tensor([[2, 0, 1], [3, 3, 3]], dtype=torch.int32, device=device)
    context_lens = torch.tensor([40, 9], dtype=torch.int32, device=device)
    expected, out = torch.empty_like(query), torch.full_like(query, torch.nan)
    workspace = make_decode_workspace(
        2,
        2,
        1,
        HEAD_DIM,
        dtype=query.dtype,
        cache_dtype=small.dtype,
        device=device,
        num_multiprocessors=2,
    )

    schedule_decode(context_lens, workspace)
    paged_decode(query, large, tables + FIRST, context_lens, out, workspace, OPTIONS)

    reference_decode(query, small, tables, context_lens, expected, None, OPTIONS)
    torch.testing.assert_close(out, expected, rtol=4e-3, atol=4e-3)


def test_prompts_read_blocks_beyond_32_bits(device: torch.device) -> None:
    small, large = small_and_large(device)
    query = torch.randn(20, 2, HEAD_DIM).half().to(device)
    tables = torch.tensor([[2, 0, 1]], dtype=torch.int32, device=device)
    context_lens = torch.tensor([40], dtype=torch.int32, device=device)
    starts = torch.tensor([0, 20], dtype=torch.int32, device=device)
    expected, out = torch.empty_like(query), torch.full_like(query, torch.nan)

    paged_prefill(query, large, tables + FIRST, context_lens, starts, out, 20, OPTIONS)

    reference_prefill(query, small, tables, context_lens, starts, expected, 20, OPTIONS)
    torch.testing.assert_close(out, expected, rtol=4e-3, atol=4e-3)


def test_keys_and_values_are_written_beyond_32_bits(device: torch.device) -> None:
    small, large = small_and_large(device)
    heads = torch.randn(3, 3, HEAD_DIM).half().to(device)
    table = torch.tensor([1.0, 0.0], device=device)[:, None, None].expand(2, 1, HEAD_DIM)[None]
    slots = torch.tensor([0, PAGE + 3, BLOCKS * PAGE - 1], device=device)
    for cache, first in ((small, 0), (large, FIRST * PAGE)):
        rope_and_cache(
            heads,
            cache,
            table.half().contiguous(),
            torch.zeros(3, dtype=torch.int64, device=device),
            slots + first,
            num_query_heads=1,
            num_kv_heads=1,
        )

    expected = heads[:, 1:].to(torch.float8_e4m3fn).view(torch.uint8)
    assert torch.equal(small.view(torch.uint8).flatten(0, 1)[slots, :, 0], expected)
    assert torch.equal(large[FIRST:].view(torch.uint8), small.view(torch.uint8))
