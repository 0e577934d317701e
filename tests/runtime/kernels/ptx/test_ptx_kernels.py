"""Compiled kernels give what the reference gives, without an access that a GPU faults on and without a race.

The interpreter runs their source over many more shapes; here are the forms whose machine code differs most.
"""

from __future__ import annotations

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels import reference
from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.gpu import rms_norm, step_inputs
from octavo.kernels.gpu.experts import down as experts_down
from octavo.kernels.gpu.experts import gate_up as experts_gate_up
from octavo.kernels.gpu.sampling import logprobs
from octavo.kernels.gpu.sampling import sample as sampling
from octavo.kernels.reference import step_inputs as reference_inputs
from octavo.kernels.reference.experts import down as reference_down
from octavo.kernels.reference.experts import gate_up as reference_gate_up
from octavo.kernels.reference.experts import route as reference_route
from octavo.kernels.reference.sampling import sample as reference_sampling
from tests.support.kernels.attention_launches import decode, exact_decode, exact_prefill, prefill
from tests.support.kernels.packed_steps import Case, blank, packed_step
from tests.support.kernels.paged_batches import TOLERANCE, paged_batch, relative_error
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.rounding import assert_rounded
from tests.support.kernels.router_logits import router_logits
from tests.support.kernels.sampling_tensors import tensors

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
PLAIN = AttentionOptions(scale=128**-0.5)
GEMMA = AttentionOptions(scale=256**-0.5, sliding_window=150, softcap=20.0)
NARROW = AttentionOptions(scale=64**-0.5)
SHAPES = pytest.mark.parametrize(
    ("head_dim", "cache_dtype", "options"),
    [(128, BF16, PLAIN), (256, BF16, GEMMA), (64, FP8, NARROW)],
    ids=["plain", "gemma", "fp8"],
)


def skip_without_fp8(cache_dtype: torch.dtype, capability: int) -> None:
    if cache_dtype is FP8 and capability < 89:
        pytest.skip("an A100 has no float8")


@SHAPES
def test_decode_of_long_and_short_contexts(
    device: torch.device,
    capability: int,
    head_dim: int,
    cache_dtype: torch.dtype,
    options: AttentionOptions,
) -> None:
    """Long ones in several pieces, which the last program merges."""
    skip_without_fp8(cache_dtype, capability)
    batch = paged_batch(
        [400, 17, 1, 130],
        [1] * 4,
        heads=8,
        kv_heads=2,
        head_dim=head_dim,
        page=16,
        dtype=BF16,
        cache_dtype=cache_dtype,
        window=options.sliding_window,
    )
    # The second launch finds what the first leaves behind: counts of arrivals.
    got = decode(batch, options, device, processors=12, launches=2)
    assert relative_error(got, exact_decode(batch, options)) < TOLERANCE[BF16]


@SHAPES
def test_prefill_of_ragged_chunks(
    device: torch.device,
    capability: int,
    head_dim: int,
    cache_dtype: torch.dtype,
    options: AttentionOptions,
) -> None:
    skip_without_fp8(cache_dtype, capability)
    batch = paged_batch(
        [300, 70, 5],
        [90, 70, 1],
        heads=4,
        kv_heads=2,
        head_dim=head_dim,
        page=16,
        dtype=BF16,
        cache_dtype=cache_dtype,
        window=options.sliding_window,
        padding_rows=3,
    )
    got = prefill(batch, options, device)
    rows = int(batch.query_start[-1])
    expected = exact_prefill(batch, options)
    assert relative_error(got[:rows], expected[:rows]) < TOLERANCE[BF16]
    assert got[rows:].isnan().all(), "padding rows were written"


@pytest.mark.parametrize("tokens", [3, 300])
def test_products_of_experts(device: torch.device, tokens: int) -> None:
    """Tiles of a few rows, and of 128, which Hopper multiplies by warpgroups."""
    hidden, width = 192, 128
    generator = torch.Generator().manual_seed(0)
    routing = reference_route.route_to_experts(router_logits(tokens, 4, "spread"), 2)
    x = torch.randn(tokens, hidden, generator=generator).to(BF16)
    gate_up = torch.randn(4, 2 * width, hidden, generator=generator).to(BF16) / hidden**0.5
    down = torch.randn(4, hidden, width, generator=generator).to(BF16) / width**0.5
    with poisoned_memory():
        inner = experts_gate_up.experts_gate_up(x, gate_up, routing)
        outer = experts_down.experts_down(inner, down, routing)
    exact = reference_gate_up.experts_gate_up(x.double(), gate_up.double(), routing)
    assert_rounded(inner, exact)
    assert_rounded(outer, reference_down.experts_down(inner.double(), down.double(), routing))


@pytest.mark.parametrize(("rows", "width"), [(5, 83), (3, 4096)])
def test_norms_are_rounded_as_the_references(device: torch.device, rows: int, width: int) -> None:
    residual, delta = torch.randn(2, rows, width).to(BF16)
    weight = torch.randn(width).to(BF16)
    total = residual + delta
    with poisoned_memory():
        got = rms_norm.add_rms_norm(residual, delta, weight, 1e-6)
    assert torch.equal(residual, total)
    assert_rounded(got, reference.rms_norm(total.double(), weight.double(), 1e-6))


WAYS = {
    "greedy beside drawn": [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 0, 1.0, 0.0)],
    "filtered": [(0.0, 0, 1.0, 0.0), (0.8, 20, 0.9, 0.0), (1.5, 0, 1.0, 0.05)],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("vocab", [4099, 20_000, 151_936])
def test_every_row_gets_the_references_token(device: torch.device, vocab: int, way: str) -> None:
    """A vocabulary that is a multiple of 4 is loaded in vectors, which moves tokens between threads. The
    chunks of a large one are more than a warp has threads: warps must agree on their sum."""
    generator = torch.Generator().manual_seed(vocab + 2)
    logits = (torch.randn(3, vocab, generator=generator) * 3).to(BF16)
    how = tensors(WAYS[way])
    with poisoned_memory():
        got = sampling.sample(logits, how)
    assert torch.equal(got, reference_sampling.sample(logits, how))


def test_logprobs_and_ranks(device: torch.device) -> None:
    logits = (torch.randn(3, 9001, generator=torch.Generator().manual_seed(0)) * 5).to(BF16)
    tokens = torch.tensor([0, 9000, 77])
    got = logprobs.top_logprobs(logits, tokens, 2)
    exact = torch.log_softmax(logits.float(), dim=-1).gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(got.own_logprob, exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(got.own_rank, (logits > logits.gather(1, tokens[:, None])).sum(dim=1) + 1)


def test_a_step_of_decodes_and_chunks_is_laid_out(device: torch.device) -> None:
    case = Case(16, [3, 77, 500], [(300, 20), (2, 0)], padding=0, num_updates=300, seed=1)
    packed, layout = packed_step(case, device)
    results = []
    for module in (reference_inputs, step_inputs):
        state, buffers = blank(device)
        module.step_inputs(packed, layout, state, buffers, case.block_size)
        results.append((state, buffers))
    (state, buffers), (own_state, own_buffers) = results
    assert torch.equal(own_state.block_tables, state.block_tables)
    assert torch.equal(own_buffers.slots, buffers.slots)
    assert torch.equal(own_buffers.token_ids, buffers.token_ids)
    assert torch.equal(own_buffers.block_tables, buffers.block_tables)
