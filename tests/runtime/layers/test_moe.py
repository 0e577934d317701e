"""Every form of the mixture of experts computes what transformers computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.kernels.reference import device as kernels
from octavo.layers.mlp import Activation, GatedMLP
from octavo.layers.moe import (
    ExpertLoop,
    ExpertProduct,
    Router,
    StackedExperts,
    stack_experts,
)
from octavo.layers.projection import Projection
from octavo.loading import Placement, SafetensorsWeights
from octavo.quantization.forms import PlainLinear
from tests.support.runtime.checkpoints import make_checkpoint

EXPERTS, HIDDEN, WIDTH = 6, 48, 80
PREFIX = "model.layers.1.block_sparse_moe"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' block of layer 1, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("mixtral")
    model = make_checkpoint(folder, "mixtral", num_local_experts=EXPERTS, num_experts_per_tok=3)
    return model.model.layers[1].mlp, folder


def router_and_stacks(folder: Path) -> tuple[torch.Tensor, ExpertProduct, ExpertProduct]:
    source = SafetensorsWeights(folder)
    (router,) = source.tensors({f"{PREFIX}.gate.weight": (EXPERTS, HIDDEN)})
    names = [[f"{PREFIX}.experts.{i}.{w}" for w in ("w1", "w3", "w2")] for i in range(EXPERTS)]
    experts = [
        (
            Projection((gate, up), HIDDEN, (WIDTH, WIDTH)),
            Projection((down,), WIDTH, (HIDDEN,)),
        )
        for gate, up, down in names
    ]
    placement = Placement(torch.float32, torch.device("cpu"))
    gate_up, down_product = (
        stack_experts(source, products, placement) for products in zip(*experts, strict=True)
    )
    source.finish(lambda _: True)
    return router, gate_up, down_product


def stacked(folder: Path) -> StackedExperts:
    return StackedExperts(
        *router_and_stacks(folder), kernels, num_per_token=3, activation=Activation.SILU
    )


def looped(folder: Path) -> ExpertLoop:
    router, gate_up, down = router_and_stacks(folder)
    assert isinstance(gate_up.weight, torch.Tensor)
    assert isinstance(down.weight, torch.Tensor)
    blocks = [
        GatedMLP(PlainLinear(g, None), PlainLinear(d, None), kernels.silu_and_mul)
        for g, d in zip(gate_up.weight, down.weight, strict=True)
    ]
    return ExpertLoop(Router(router, 3), blocks)


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("form", [looped, stacked])
def test_equals_transformers(
    checkpoint: tuple[Any, Path], form: Callable[[Path], Callable[..., torch.Tensor]], rows: int
) -> None:
    block, folder = checkpoint
    x = torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        expected = block(x[None])[0]
        torch.testing.assert_close(form(folder)(x), expected, rtol=1e-4, atol=1e-4)


def test_experts_without_tokens_and_experts_with_all_of_them(
    checkpoint: tuple[Any, Path],
) -> None:
    """All rows alike: three experts get every row, the others none."""
    _, folder = checkpoint
    x = torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(9)).expand(17, -1)
    with torch.inference_mode():
        got, expected = stacked(folder)(x), looped(folder)(x)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, got[:1].expand(17, -1), rtol=1e-5, atol=1e-5)
