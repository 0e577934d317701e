"""Forms of a weight: which is taken where, and that all of them compute the same product."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from octavo.config import Quantization
from octavo.kernels import reference
from octavo.kernels.cpu.products import panel_linear, unpack_panels
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.small_linear import SmallLinear
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.projection import Projection
from octavo.loading import DummyWeights, Placement, WeightSource
from octavo.models.base import Tables
from octavo.models.building import ModelBuilder
from octavo.quantization import Scheme, Unquantised, WeightOnly, scheme_for, unquantised
from octavo.quantization.forms import AlignedHead, PackedLinear, PlainLinear
from octavo.quantization.unquantised import _can_pack, compact_lookup, fastest

CPU = torch.device("cpu")


def plain(weight: torch.Tensor) -> Linear:
    return fastest(PlainWeight(weight, None))


class Stored:
    """A source that holds these tensors."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        self._tensors = {f"{name}.weight": tensor for name, tensor in tensors.items()}

    def names(self) -> tuple[str, ...]:
        return ()

    def has(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...] | None:
        return tuple(self._tensors[name].shape) if self.has(name) else None

    def tensors(self, shapes: object, part: object = None) -> list[torch.Tensor]:
        return [self._tensors[name] for name in shapes]  # type: ignore[attr-defined]

    def note(self, problem: str) -> None:
        raise AssertionError(problem)

    def finish(self, is_ignored: object) -> None: ...


def load(scheme: Scheme, weight: torch.Tensor) -> Linear:
    width, depth = weight.shape
    source: WeightSource = Stored(p=weight)
    return scheme.load(Projection(("p",), depth, (width,)), source, Placement(weight.dtype, CPU))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 2, 8, 33, 300])
def test_packed_products_equal_plain_ones(dtype: torch.dtype, rows: int) -> None:
    if not _can_pack(dtype):
        pytest.skip(f"oneDNN packs no {dtype} for this CPU")
    torch.manual_seed(0)
    weight = torch.randn(1024, 640, dtype=dtype) / 25
    bias = torch.randn(1024, dtype=dtype)
    packed = PackedLinear(weight, bias)
    x = torch.randn(rows, 640, dtype=dtype)
    tolerance = 1e-4 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(packed(x), F.linear(x, weight, bias), rtol=tolerance, atol=tolerance)


def wide(*shape: int) -> torch.Tensor:
    """Of no form of 16 bits."""
    return torch.full(shape, 1 / 3)


def test_large_weights_are_packed_for_the_cpu() -> None:
    assert isinstance(plain(wide(1024, 640)), PackedLinear)
    narrow = torch.zeros(1024, 640, dtype=torch.bfloat16)
    # What the CPU multiplies itself decides.
    forms = (PackedLinear, PanelLinear) if _can_pack(torch.bfloat16) else PlainLinear
    assert isinstance(plain(narrow), forms)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("has_bias", [False, True])
def test_numbers_of_16_bits_are_held_in_them_and_multiplied_in_float32(
    stored: torch.dtype, has_bias: bool
) -> None:
    torch.manual_seed(0)
    weight = (torch.randn(1040, 640) / 25).to(stored)
    weight[0, :3] = torch.tensor([0.0, -0.0, torch.finfo(stored).tiny / 4])
    bias = wide(1040) if has_bias else None
    form = fastest(PlainWeight(weight.float(), bias))
    assert isinstance(form, PanelLinear)
    assert form.panels.format is PanelFormat.of(stored)
    x = torch.randn(9, 640)
    torch.testing.assert_close(form(x), F.linear(x, weight.float(), bias), rtol=1e-5, atol=1e-5)
    assert form.lookup is not None
    ids = torch.tensor([0, 1039, 17])
    assert torch.equal(form.lookup(ids), weight.float()[ids])


@pytest.mark.parametrize("value", [1 / 3, 70_000.1, float("nan")])
def test_one_number_that_is_wide_keeps_all_of_them_as_they_are(value: float) -> None:
    """The last, which no sample would find."""
    weight = torch.ones(1040, 640).half().float()
    weight[0, 0] = 1 + 2**-10  # no bfloat16
    weight[-1, -1] = value
    assert isinstance(plain(weight), PackedLinear)


@pytest.mark.parametrize(("width", "depth"), [(1040, 640), (1044, 640), (1040, 636), (16, 64)])
@pytest.mark.parametrize("held", [torch.bfloat16, torch.float16, torch.float32])
def test_bytes_that_are_announced_of_float32_are_those_that_are_held(
    width: int, depth: int, held: torch.dtype
) -> None:
    weight = wide(width, depth).to(held).float()
    scheme = Unquantised(held_dtype=held)
    announced = scheme.num_bytes(Projection(("p",), depth, (width,)), torch.float32)
    form = load(scheme, weight)
    is_narrow = held is not torch.float32 and (width, depth) == (1040, 640)
    assert isinstance(form, PanelLinear) is is_narrow
    if isinstance(form, PanelLinear):
        assert announced == form.panels.num_bytes
    else:
        assert announced == 4 * width * depth


@pytest.mark.parametrize("held", [torch.bfloat16, torch.float16, torch.float32])
def test_rows_of_a_table_are_those_that_it_had(held: torch.dtype) -> None:
    table, ids = torch.randn(1100, 500).to(held).float(), torch.tensor([[3, 1099], [0, 3]])
    assert torch.equal(compact_lookup(table.clone())(ids), table[ids])
    assert torch.equal(compact_lookup(table[:9].clone())(ids % 9), table[ids % 9])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantization_decides_the_format(dtype: torch.dtype) -> None:
    def format_of(linear: Linear) -> PanelFormat:
        assert isinstance(linear, PanelLinear)
        return linear.panels.format

    def make(width: int, depth: int, quantization: Quantization) -> Linear:
        return load(WeightOnly(quantization), torch.ones(width, depth, dtype=dtype))

    assert format_of(make(48, 64, Quantization.INT8)) is PanelFormat.INT8
    assert format_of(make(48, 64, Quantization.INT4)) is PanelFormat.INT4
    assert format_of(make(48, 40, Quantization.INT4)) is PanelFormat.INT8
    assert isinstance(make(40, 64, Quantization.INT8), PlainLinear)
    head = WeightOnly(Quantization.INT4).head(torch.ones(48, 64, dtype=dtype))
    assert format_of(head) is PanelFormat.INT8


@pytest.mark.parametrize("width", [48, 33, 40, 16])
@pytest.mark.parametrize("depth", [32, 40, 64, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quantization", [Quantization.INT8, Quantization.INT4])
def test_bytes_that_are_announced_are_those_of_what_is_made(
    width: int, depth: int, dtype: torch.dtype, quantization: Quantization
) -> None:
    scheme = WeightOnly(quantization)
    linear = load(scheme, torch.ones(width, depth, dtype=dtype))
    announced = scheme.num_bytes(Projection(("p",), depth, (width,)), dtype)
    if isinstance(linear, PanelLinear):
        assert announced == linear.panels.num_bytes
    else:
        assert announced == width * depth * dtype.itemsize


def test_a_device_whose_kernels_do_more_than_a_product_gets_plain_weights() -> None:
    from octavo.kernels.reference import device

    assert scheme_for(None, device) == Unquantised(is_plain=True)
    assert scheme_for(None, reference) == Unquantised(is_plain=False)
    assert isinstance(load(Unquantised(is_plain=True), torch.zeros(1024, 640)), PlainLinear)


@pytest.mark.parametrize("width", [64, 1024])
def test_rows_are_looked_up_in_what_the_product_holds(width: int) -> None:
    weight = torch.randn(width, 64)
    ids = torch.tensor([3, width - 1, 40])
    forms = (
        PlainLinear(weight, None),
        AlignedHead(weight),
        WeightOnly(Quantization.INT8).head(weight),
        WeightOnly(Quantization.INT8).head(weight.bfloat16()),
    )
    for form in forms:
        assert form.lookup is not None
        rows = form.lookup(ids)
        x = torch.randn(1, 64).to(rows.dtype)
        tolerance = 1e-5 if rows.dtype is torch.float32 else 3e-2
        torch.testing.assert_close(form(x)[0, ids], rows @ x[0], rtol=tolerance, atol=tolerance)
    assert load(WeightOnly(Quantization.INT4), weight).lookup is None
    assert PackedLinear(weight, None).lookup is None
    assert SmallLinear(weight, None).lookup is None


def tied(scheme: Scheme, table: torch.Tensor) -> tuple[object, Linear]:
    vocab, hidden = table.shape
    embedding, head = (Projection((name,), hidden, (vocab,)) for name in ("embed", "head"))
    builder = ModelBuilder(Stored(embed=table), scheme, reference, Placement(table.dtype, CPU))
    lookup, product = builder.tables(Tables(embedding, head, is_tied=True))
    assert product is not None
    return lookup, product


def test_tied_tables_are_held_once_and_their_rows_are_what_the_head_multiplies_with() -> None:
    table = torch.randn(160, 64)
    embed, head = tied(WeightOnly(Quantization.INT8), table)
    assert callable(embed)
    x = torch.randn(1, 64)
    ids = torch.tensor([3, 159, 40])
    torch.testing.assert_close(head(x)[0, ids], embed(ids) @ x[0])
    assert not torch.equal(embed(ids), table[ids])
    as_it_is, _ = tied(Unquantised(), table)
    assert callable(as_it_is)
    assert torch.equal(as_it_is(ids), table[ids])


@pytest.mark.parametrize("vocab", [97, 128, 129])
@pytest.mark.parametrize("has_bias", [False, True])
def test_rows_of_an_aligned_head_are_apart_and_hold_the_products(
    vocab: int, has_bias: bool
) -> None:
    weight = torch.randn(vocab, 24)
    bias = torch.randn(vocab) if has_bias else None
    head = AlignedHead(weight, bias)
    x = torch.randn(3, 24)
    logits = head(x)
    assert logits.shape == (3, vocab)
    assert logits.stride(0) % 64 == 0
    assert logits.data_ptr() % 16 == 0
    torch.testing.assert_close(logits, F.linear(x, weight, bias))


def test_a_gpus_head_is_aligned_where_the_vocabulary_is_not_and_shares_the_embeddings_table() -> (
    None
):
    scheme = Unquantised(is_plain=True)
    assert isinstance(scheme.head(torch.empty(32001, 8, device="meta")), AlignedHead)
    assert isinstance(scheme.head(torch.empty(32000, 8, device="meta")), PlainLinear)
    table = torch.randn(33, 8)
    embed, head = tied(scheme, table)
    assert callable(embed)
    assert isinstance(head, AlignedHead)
    head._padded.mul_(2.0)
    assert torch.equal(embed(torch.tensor([32, 0])), 2.0 * table[[32, 0]])


def test_small_weights_take_the_kernel_and_its_misfits_stay_plain() -> None:
    assert isinstance(plain(torch.zeros(64, 64)), SmallLinear)
    assert isinstance(plain(torch.zeros(65, 64)), PlainLinear)
    assert isinstance(plain(torch.zeros(65, 64, dtype=torch.bfloat16)), PlainLinear)
    assert isinstance(plain(torch.zeros(1024, 1024, dtype=torch.float16)), PlainLinear)


def test_projections_lie_side_by_side_in_the_given_order() -> None:
    source = DummyWeights(dtype=torch.float32, device=CPU, seed=1)
    projection = Projection(("a", "b"), 8, (3, 5))
    linear = Unquantised().load(projection, source, Placement(torch.float32, CPU))
    x = torch.randn(2, 8)
    weights = source.tensors({"a.weight": (3, 8), "b.weight": (5, 8)})
    expected = torch.cat([F.linear(x, weight) for weight in weights], dim=-1)
    torch.testing.assert_close(linear(x), expected)


@pytest.mark.parametrize(("is_granted", "depth"), [(True, 64), (True, 72), (False, 64)])
def test_weights_in_bfloat16_are_torchs_where_only_torch_has_amx(
    monkeypatch: pytest.MonkeyPatch, is_granted: bool, depth: int
) -> None:
    """Of a CPU with AMX: panels without its registers take a prompt several times as long."""
    if not unpack_panels.has_pair_products():
        pytest.skip("a CPU without AVX512-BF16")
    monkeypatch.setattr(unquantised, "has_matrix_units", lambda: True)
    monkeypatch.setattr(panel_linear, "multiplies_by_registers", lambda: is_granted)
    form = plain(torch.ones(80, depth, dtype=torch.bfloat16))
    assert isinstance(form, PanelLinear) is (is_granted and depth % 32 == 0)
