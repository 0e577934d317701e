"""Grouped products with packed weights, over the tiles that a router makes."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from octavo.kernels.expert_gate import GELU_TANH, SILU, ExpertGate
from octavo.kernels.packed_weight import PackedWeight, stacked
from octavo.kernels.reference import device as oracle
from octavo.kernels.reference.weight_only import Code
from tests.support.kernels.packed_weights import packed, quantized
from tests.support.kernels.poison import poisoned_memory
from tests.support.kernels.router_logits import router_logits
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips

EXPERTS = 3
GPT_OSS = ExpertGate(alpha=1.702, limit=0.5, shift=1.0)  # a limit that some reach
FORMS = [
    # Code, whether zeros, inputs, group, outputs, tokens, rows of a tile, dtype.
    (Code.INT4, True, 128, 32, 40, 5, 16, torch.bfloat16),
    (Code.INT8, False, 72, 72, 34, 20, 32, torch.float16),
    (Code.FLOAT8, False, 64, 32, 40, 9, 128, torch.bfloat16),
    (Code.INT4, False, 1024, 1024, 24, 2, 16, torch.float32),  # in parts
    (Code.MXFP4, False, 96, 32, 24, 5, 16, torch.bfloat16),  # of two blocks, the last not full
]


def experts(
    code: Code, width: int, depth: int, group: int, device: torch.device, *, has_zeros: bool
) -> PackedWeight:
    weights = [
        quantized(code, width, depth, group, has_zeros=has_zeros and seed != 1, seed=seed)
        for seed in range(EXPERTS)
    ]
    found = stacked([packed(one, code, device) for one in weights])
    assert found is not None
    return found


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0].value}-{form[6]}-{form[7]}")
def test_experts_are_those_of_the_dequantised_weights(
    device: torch.device, form: tuple[Code, bool, int, int, int, int, int, torch.dtype]
) -> None:
    code, has_zeros, depth, group, width, tokens, block_rows, dtype = form
    logits = router_logits(tokens, EXPERTS, "spread").to(device)
    routing = oracle.route_to_experts(logits, 2, None, block_rows)
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, depth, generator=generator).to(dtype).to(device)
    inner = torch.randn(tokens * 2, depth, generator=generator).to(dtype).to(device)
    gate_up = experts(code, 2 * width, depth, group, device, has_zeros=has_zeros)
    down = experts(code, width, depth, group, device, has_zeros=has_zeros)
    is_gpt_oss = code is Code.MXFP4
    gate = GPT_OSS if is_gpt_oss else GELU_TANH if dtype is torch.float16 else SILU
    biases: list[torch.Tensor | None] = [None, None]
    if is_gpt_oss or depth == 1024:
        own = (torch.randn(EXPERTS, size, generator=generator) for size in (2 * width, width))
        biases = [one.to(dtype).to(device) for one in own]

    with poisoned_memory(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        half = gpu.packed_experts_gate_up(x, gate_up, routing, gate=gate, bias=biases[0])
        parts = gpu.packed_experts_down(inner, down, routing, bias=biases[1])

    assert (parts.shape[0] > 1) == (depth == 1024)
    unit = {torch.float32: 2.0**-22, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}[dtype]
    exact = oracle.packed_experts_gate_up(x.double(), gate_up, routing, gate=gate, bias=biases[0])
    torch.testing.assert_close(half.double(), exact, rtol=unit, atol=2e-5)
    exact = oracle.packed_experts_down(inner.double(), down, routing, bias=biases[1])
    torch.testing.assert_close(parts.double().sum(0), exact[0], rtol=unit, atol=2e-5)


def test_each_expert_takes_its_inputs_in_its_own_order(device: torch.device) -> None:
    tokens, hidden, width = 21, 320, 20  # of the gather's columns the last block is not full
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(hidden, generator=generator) for _ in range(EXPERTS)]
    input_order = torch.stack(orders).int().to(device)
    live = torch.tensor([tokens - 2], dtype=torch.int32, device=device)
    logits = router_logits(tokens, EXPERTS, "spread").to(device)
    x = torch.randn(tokens, hidden + 8, generator=generator).bfloat16().to(device)[:, :hidden]
    weight = experts(Code.INT4, 2 * width, hidden, 32, device, has_zeros=True)
    for block_rows in (16, 128):
        routing = oracle.route_to_experts(logits, 2, live, block_rows)
        with poisoned_memory():
            got = gpu.packed_experts_gate_up(x, weight, routing, input_order=input_order)

        for expert, first, end in routing.tiles.tolist():
            if expert < 0:
                continue
            rows = x[routing.order[first:end] // 2].double().cpu()[:, orders[expert]]
            matrix = weight.of(expert).unpack().dequantize().double().cpu()
            gate, up = (rows @ matrix.T).chunk(2, 1)
            exact = torch.nn.functional.silu(gate) * up
            torch.testing.assert_close(
                got[first:end].double().cpu(), exact, rtol=2.0**-7, atol=2e-5
            )


def test_experts_that_differ_in_form_are_no_stack() -> None:
    device = torch.device("cpu")
    one, other = (
        packed(quantized(Code.INT8, 8, 64, group, has_zeros=False), Code.INT8, device)
        for group in (32, 64)
    )
    assert stacked([one, other]) is None
