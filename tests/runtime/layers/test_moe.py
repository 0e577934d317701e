"""Every form of the mixture of experts computes what transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.kernels import reference as kernels
from octavo.layers.linear import PlainLinear
from octavo.layers.mlp import GatedMLP
from octavo.layers.moe import ExpertLoop, Router, StackedExperts, stack_experts
from octavo.loading import SafetensorsWeights

from ..checkpoints import make_checkpoint  # noqa: TID252 (rootdir is not importable)

EXPERTS, HIDDEN, WIDTH = 6, 48, 80
PREFIX = "model.layers.1.block_sparse_moe"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' block of layer 1, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("mixtral")
    model = make_checkpoint(folder, "mixtral", num_local_experts=EXPERTS, num_experts_per_tok=3)
    return model.model.layers[1].mlp, folder


def router_and_stacks(folder: Path) -> tuple[Router, torch.Tensor, torch.Tensor]:
    source = SafetensorsWeights(folder, dtype=torch.float32, device=torch.device("cpu"))
    weight = source.take(f"{PREFIX}.gate.weight", (EXPERTS, HIDDEN))
    names = [[f"{PREFIX}.experts.{i}.{w}" for w in ("w1", "w3", "w2")] for i in range(EXPERTS)]
    gate_up, down = stack_experts(source, names, HIDDEN, WIDTH, like=weight)
    source.finish(lambda _: True)
    return Router(weight, 3), gate_up, down


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("form", ["loop", "grouped", "every"])
def test_equals_transformers(checkpoint: tuple[Any, Path], form: str, rows: int) -> None:
    block, folder = checkpoint
    router, gate_up, down = router_and_stacks(folder)
    gate = kernels.silu_and_mul
    experts: ExpertLoop | StackedExperts
    if form == "loop":
        blocks = [
            GatedMLP(PlainLinear(gate_up[i], None), PlainLinear(down[i], None), gate)
            for i in range(EXPERTS)
        ]
        experts = ExpertLoop(router, blocks)
    else:
        experts = StackedExperts(router, gate_up, down, gate, has_grouped_product=form == "grouped")
    x = torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        expected = block(x[None])[0]
        torch.testing.assert_close(experts(x), expected, rtol=1e-4, atol=1e-4)


def test_experts_without_tokens_and_experts_with_all_of_them(
    checkpoint: tuple[Any, Path],
) -> None:
    """All rows alike: three experts get every row, the others none."""
    _, folder = checkpoint
    router, gate_up, down = router_and_stacks(folder)
    x = torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(9)).expand(17, -1)
    with torch.inference_mode():
        grouped, every = (
            StackedExperts(router, gate_up, down, kernels.silu_and_mul, has_grouped_product=has)(x)
            for has in (True, False)
        )
        torch.testing.assert_close(grouped, every, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grouped, grouped[:1].expand(17, -1), rtol=0, atol=0)
