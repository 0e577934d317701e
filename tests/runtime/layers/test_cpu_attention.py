from __future__ import annotations

import dataclasses

import pytest
import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import AttentionPlan, SequenceSpan, plan_attention
from octavo.kernels.decode_rows import DecodeTables, count_decodes, make_decode_rows
from octavo.kernels.prefill_chunks import make_prefill_chunks
from octavo.layers.norm import HeadNorm
from octavo.layers.rotary import RopeConfig, RotaryTable
from octavo.layers.step import AttentionSpec
from octavo.layers.torch_attention import TorchAttentionStep
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.layers.cpu_attention import CpuAttentionStep

HEADS, KV_HEADS, DIM, PAGE = 4, 2, 32, 16
CPU = torch.device("cpu")


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("are_planned", [False, True])
def test_a_mixed_step_equals_the_torch_form(
    window: int | None, softcap: float | None, are_planned: bool
) -> None:
    """Two decodes, a continued chunk and a fresh prompt. The first decode's context ends in a block that the
    chunk fills in this very step, as sequences with a common prompt do."""
    spans = [
        SequenceSpan(1, 41, [0, 1, 2]),
        SequenceSpan(1, 18, [4, 5]),
        SequenceSpan(9, 40, [0, 1, 2]),
        SequenceSpan(7, 7, [6]),
    ]
    generator = torch.Generator().manual_seed(0)
    positions = torch.tensor(
        [p for s in spans for p in range(s.context_length - s.num_rows, s.context_length)]
    )
    owners = [span for span in spans for _ in range(span.num_rows)]
    slots = torch.tensor(
        [o.block_ids[p // PAGE] * PAGE + p % PAGE for o, p in zip(owners, positions, strict=True)]
    )
    heads = torch.randn(len(positions), HEADS + 2 * KV_HEADS, DIM, generator=generator)
    start = torch.randn(8, PAGE, 2, KV_HEADS, DIM, generator=generator)
    weight = torch.rand(HEADS + KV_HEADS, DIM, generator=generator) + 0.5
    options = AttentionOptions(scale=DIM**-0.5, sliding_window=window, softcap=softcap)
    spec = AttentionSpec(HEADS, KV_HEADS, DIM, options, HeadNorm(weight, 1e-6), rotary=1)
    rotary = RotaryTable(RopeConfig(), DIM, 64, dtype=torch.float32, device=CPU)
    # A model may have a table for its windows and another for the rest: this layer's is the second.
    other = RotaryTable(RopeConfig(theta=10.0), DIM, 64, dtype=torch.float32, device=CPU)
    rotations = tuple((one, *one.at(positions)) for one in (other, rotary))
    workspace = torch.empty(16, *start.shape[1:])
    windows = [] if window is None else [window]

    def plan_from(first: int) -> AttentionPlan:
        """Of the spans from the first one on, before which each is one row."""
        kind = torch.float32
        return plan_attention(
            spans[first:], slots[first:], block_size=PAGE, dtype=kind, device=CPU, windows=windows
        )

    plan = plan_from(0)
    expected_cache, cache = start.clone(), start.clone()
    torch_step = TorchAttentionStep(plan, positions, rotations, workspace)
    expected = torch_step.attend(heads.clone(), expected_cache, spec)
    count = count_decodes(spans)
    step = CpuAttentionStep(
        positions,
        slots,
        (other.table, rotary.table),
        make_decode_rows(spans[:count], PAGE, DecodeTables(0, 0)),
        plan_from(count) if are_planned else make_prefill_chunks(spans[count:], PAGE),
        workspace,
    )
    got = step.attend(heads.clone(), cache, spec)
    assert count == 2
    alone = TorchAttentionStep(plan, positions, rotations[1:], workspace)
    first = dataclasses.replace(spec, rotary=0)
    assert torch.equal(alone.attend(heads.clone(), start.clone(), first), expected)
    torch.testing.assert_close(cache, expected_cache, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
