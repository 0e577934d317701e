from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from octavo.kernels.cpu.small_linear import SmallLinear
from octavo.layers.linear import PackedLinear, PlainLinear, load_linear, make_linear
from octavo.loading import DummyWeights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 300])
def test_packed_products_equal_plain_ones(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(1024, 640, dtype=dtype) / 25
    bias = torch.randn(1024, dtype=dtype)
    packed = make_linear(weight, bias)
    assert isinstance(packed, PackedLinear)
    x = torch.randn(rows, 640, dtype=dtype)
    tolerance = 1e-4 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(packed(x), F.linear(x, weight, bias), rtol=tolerance, atol=tolerance)


def test_small_weights_take_the_kernel_and_its_misfits_stay_plain() -> None:
    assert isinstance(make_linear(torch.zeros(64, 64)), SmallLinear)
    assert isinstance(make_linear(torch.zeros(65, 64)), PlainLinear)
    assert isinstance(make_linear(torch.zeros(64, 64, dtype=torch.bfloat16)), PlainLinear)
    assert isinstance(make_linear(torch.zeros(1024, 1024, dtype=torch.float16)), PlainLinear)


def test_projections_lie_side_by_side_in_the_given_order() -> None:
    source = DummyWeights(dtype=torch.float32, device=torch.device("cpu"), seed=1)
    linear = load_linear(source, ["a", "b"], in_features=8, out_features=[3, 5], bias=False)
    x = torch.randn(2, 8)
    expected = torch.cat(
        [
            F.linear(x, source.take("a.weight", (3, 8))),
            F.linear(x, source.take("b.weight", (5, 8))),
        ],
        dim=-1,
    )
    torch.testing.assert_close(linear(x), expected)
