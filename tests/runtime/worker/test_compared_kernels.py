"""A wrong result of a kernel is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)

from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference import device as reference
from tests.support.runtime.compared_kernels import Comparison, compared_kernels, difference

BF16 = torch.bfloat16


def test_roundings_are_no_difference_and_more_is() -> None:
    row = torch.tensor([[1.0, 100.0, float("-inf")]], dtype=BF16)
    assert difference(row, row.clone()) is None
    assert difference(row + torch.tensor([0.0, 1.0, 0.0]).to(BF16), row) is None
    assert difference(row + torch.tensor([5.0, 0.0, 0.0]).to(BF16), row) is not None
    assert difference(row.nan_to_num(), row) is not None
    assert difference(row[:, :2], row) is not None


def test_every_integer_counts() -> None:
    assert difference(torch.tensor([3, 4]), torch.tensor([3, 4])) is None
    assert difference(torch.tensor([3, 4]), torch.tensor([3, 5])) == "1 of 2 integers differ"


@pytest.mark.parametrize(
    ("in_residual", "in_normed", "told"),
    [(0.0, 0.0, []), (9.0, 0.0, ["add_rms_norm's argument 0"]), (0.0, 1.0, ["add_rms_norm"])],
)
def test_what_is_returned_and_what_is_changed_are_compared(
    monkeypatch: pytest.MonkeyPatch, in_residual: float, in_normed: float, told: list[str]
) -> None:
    def add_rms_norm(
        residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        normed = reference.add_rms_norm(residual, delta, weight, eps)
        residual[0, 0] += in_residual
        return normed + in_normed

    monkeypatch.setattr(gpu, "add_rms_norm", add_rms_norm)
    comparison = Comparison()
    kernels: Any = compared_kernels(comparison)
    kernels.add_rms_norm(torch.ones(2, 8), torch.ones(2, 8), torch.ones(8), 1e-6)
    assert comparison.calls == {"add_rms_norm": 1}
    assert [text.split(":")[0] for text in comparison.differences] == told
