from __future__ import annotations

from unittest import mock

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from octavo.config import Quantization
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.small_linear import SmallLinear
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from octavo.layers import embedding
from octavo.layers.embedding import AlignedHead, make_head, tie
from octavo.layers.linear import (
    Linear,
    PackedLinear,
    PlainLinear,
    load_linear,
    make_linear,
)
from octavo.loading import DummyWeights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 300])
def test_packed_products_equal_plain_ones(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(1024, 640, dtype=dtype) / 25
    bias = torch.randn(1024, dtype=dtype)
    packed = PackedLinear(weight, bias)
    x = torch.randn(rows, 640, dtype=dtype)
    tolerance = 1e-4 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(packed(x), F.linear(x, weight, bias), rtol=tolerance, atol=tolerance)


def test_large_weights_are_packed_for_the_cpu() -> None:
    assert isinstance(make_linear(torch.zeros(1024, 640)), PackedLinear)
    forms = (PackedLinear, PanelLinear)  # what the CPU multiplies itself decides
    assert isinstance(make_linear(torch.zeros(1024, 640, dtype=torch.bfloat16)), forms)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantization_decides_the_format(dtype: torch.dtype) -> None:
    def format_of(linear: Linear) -> PanelFormat:
        assert isinstance(linear, PanelLinear)
        return linear.panels.format

    def make(width: int, depth: int, quantization: Quantization) -> Linear:
        return make_linear(torch.ones(width, depth, dtype=dtype), None, quantization)

    assert format_of(make(48, 64, Quantization.INT8)) is PanelFormat.INT8
    assert format_of(make(48, 64, Quantization.INT4)) is PanelFormat.INT4
    assert format_of(make(48, 40, Quantization.INT4)) is PanelFormat.INT8
    assert isinstance(make(40, 64, Quantization.INT8), PlainLinear)
    head = make_head(torch.ones(48, 64, dtype=dtype), Quantization.INT4)
    assert format_of(head) is PanelFormat.INT8


def test_tied_tables_are_held_once_and_their_rows_are_what_the_head_multiplies_with() -> None:
    table = torch.randn(160, 64)
    embed, head = tie(table, Quantization.INT8)
    x = torch.randn(1, 64)
    ids = torch.tensor([3, 159, 40])
    torch.testing.assert_close(head(x)[0, ids], embed(ids) @ x[0])
    assert not torch.equal(embed(ids), table[ids])
    plain, _ = tie(table, None)
    assert torch.equal(plain(ids), table[ids])


@pytest.mark.parametrize("vocab", [97, 128, 129])
def test_rows_of_an_aligned_head_are_apart_and_hold_the_products(vocab: int) -> None:
    weight = torch.randn(vocab, 24)
    head = AlignedHead(weight)
    x = torch.randn(3, 24)
    logits = head(x)
    assert logits.shape == (3, vocab)
    assert logits.stride(0) % 64 == 0
    assert logits.data_ptr() % 16 == 0
    torch.testing.assert_close(logits, F.linear(x, weight))


def test_a_gpus_head_is_aligned_where_the_vocabulary_is_not_and_shares_the_embeddings_table() -> (
    None
):
    assert isinstance(make_head(torch.empty(32001, 8, device="meta")), AlignedHead)
    assert isinstance(make_head(torch.empty(32000, 8, device="meta")), PlainLinear)
    table = torch.randn(33, 8)
    with mock.patch.object(embedding, "make_head", lambda weight, _: AlignedHead(weight)):
        embed, head = tie(table, None)
    assert isinstance(head, AlignedHead)
    head.table.mul_(2.0)
    assert torch.equal(embed(torch.tensor([32, 0])), 2.0 * table[[32, 0]])


def test_small_weights_take_the_kernel_and_its_misfits_stay_plain() -> None:
    assert isinstance(make_linear(torch.zeros(64, 64)), SmallLinear)
    assert isinstance(make_linear(torch.zeros(65, 64)), PlainLinear)
    assert isinstance(make_linear(torch.zeros(65, 64, dtype=torch.bfloat16)), PlainLinear)
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
