"""Matrix products, in the form that is fastest where they run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.config import Quantization
from octavo.kernels.numba_setup import cpu_flags
from octavo.kernels.select import has_cpu_kernels
from octavo.loading import WeightSource

if TYPE_CHECKING:
    from octavo.kernels.cpu.products.weight_panels import PanelFormat

# Up to this many elements a product is so short that dispatch is most of it, and a second thread does not
# pay. On the bundled model (65k to 330k elements) `SmallLinear` takes a quarter of oneDNN's time at 1 row,
# half at 8, and as long at 32.
_MAX_SMALL_ELEMENTS = 2**19
# Below this many elements oneDNN's dispatch costs more than its blocked layout saves.
_MIN_PACKED_ELEMENTS = 2**15
# The row count that oneDNN lays the weight out for. One for decode batches is as good for 1 row and
# for 1024 (1.65 times the plain speed at 8 rows, bf16); a hint of 1 would keep the plain layout.
_PACKED_ROWS_HINT = 8


class Linear(Protocol):
    """`[rows, in_features] -> [rows, out_features]`."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


class PlainLinear:
    """Weight `[out_features, in_features]`, used as it is."""

    __slots__ = ("bias", "weight")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


class PackedLinear:
    """Weight in oneDNN's blocked layout, which `F.linear` would otherwise make anew in every call.

    CPU only. The plain weight is not kept.
    """

    __slots__ = ("_bias", "_packed", "_run")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        # torch.compile's CPU backend emits these two operators; there is no public name for them.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_ROWS_HINT)  # noqa: SLF001
        self._run = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self._run(x, self._packed, self._bias, "none", [], "")
        return result


def make_linear(
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    quantization: Quantization | None = None,
) -> Linear:
    """The fastest form for the weight's device, dtype and size.

    Args:
        weight: `[out_features, in_features]`.
        quantization: What to round the weight to (CPU). A weight that int4 does not fit (inputs in groups
            of 32) is rounded to int8; one that int8 does not fit (inputs in eights, outputs in sixteens)
            stays as it is.
    """
    if weight.device.type != "cpu":
        return PlainLinear(weight, bias)
    if has_cpu_kernels():
        linear = _kernel_linear(weight, bias, quantization)
        if linear is not None:
            return linear
    if (
        weight.numel() >= _MIN_PACKED_ELEMENTS
        and weight.dtype in (torch.float32, torch.bfloat16)
        and _can_pack()
    ):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


def _kernel_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, quantization: Quantization | None
) -> Linear | None:
    """One of our own kernels, where one takes the weight and is the fastest."""
    from octavo.kernels.cpu.products.pack_panels import pack  # needs numba
    from octavo.kernels.cpu.products.panel_linear import PanelLinear
    from octavo.kernels.cpu.products.small_linear import SmallLinear

    panel_format = _panel_format(weight, quantization)
    if panel_format is not None:
        return PanelLinear(pack(weight, panel_format), weight.dtype, bias)
    if weight.numel() <= _MAX_SMALL_ELEMENTS and SmallLinear.takes(weight):
        return SmallLinear(weight, bias)
    return None


def _panel_format(weight: torch.Tensor, quantization: Quantization | None) -> PanelFormat | None:
    """How the weight is to lie in panels; None where another form is right."""
    from octavo.kernels.cpu.products.panel_tile import has_pair_products  # needs numba
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, takes

    wanted = []
    if quantization is Quantization.INT4:
        wanted.append(PanelFormat.INT4)
    if quantization is not None:
        wanted.append(PanelFormat.INT8)
    if weight.dtype is torch.bfloat16 and has_pair_products() and not _has_matrix_units():
        wanted.append(PanelFormat.BFLOAT16)
    return next((one for one in wanted if takes(weight, one)), None)


@functools.cache
def _has_matrix_units() -> bool:
    """AMX, which oneDNN's products with many rows use and our kernels do not."""
    return "amx_bf16" in cpu_flags()


@functools.cache
def _can_pack() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return all(
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


def load_linear(
    source: WeightSource,
    names: Sequence[str],
    *,
    in_features: int,
    out_features: Sequence[int],
    bias: bool,
    quantization: Quantization | None = None,
    is_plain: bool = False,
) -> Linear:
    """One product that computes several projections of the same input side by side.

    Args:
        names: Parameter prefixes, such as `model.layers.0.self_attn.q_proj`.
        out_features: Width of each of them.
        bias: Whether they have biases.
        quantization: As in `make_linear`.
        is_plain: Always a `PlainLinear`, for kernels that read its weight themselves.
    """
    weights = [
        source.take(f"{name}.weight", (width, in_features))
        for name, width in zip(names, out_features, strict=True)
    ]
    biases = [
        source.take(f"{name}.bias", (width,))
        for name, width in zip(names, out_features, strict=True)
        if bias
    ]
    weight = (weights[0] if len(weights) == 1 else torch.cat(weights)).contiguous()
    summand = torch.cat(biases) if biases else None
    return PlainLinear(weight, summand) if is_plain else make_linear(weight, summand, quantization)
