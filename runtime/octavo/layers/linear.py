"""Matrix products, in the form that is fastest where they run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.select import has_cpu_kernels
from octavo.loading import WeightSource

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


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The fastest form for the weight's device, dtype and size."""
    if weight.device.type == "cpu" and has_cpu_kernels() and weight.numel() <= _MAX_SMALL_ELEMENTS:
        from octavo.kernels.cpu.small_linear import SmallLinear  # needs numba

        if SmallLinear.takes(weight):
            return SmallLinear(weight, bias)
    if (
        weight.device.type == "cpu"
        and weight.numel() >= _MIN_PACKED_ELEMENTS
        and weight.dtype in (torch.float32, torch.bfloat16)
        and _can_pack()
    ):
        return PackedLinear(weight, bias)
    return PlainLinear(weight, bias)


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
) -> Linear:
    """One product that computes several projections of the same input side by side.

    Args:
        names: Parameter prefixes, such as `model.layers.0.self_attn.q_proj`.
        out_features: Width of each of them.
        bias: Whether they have biases.
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
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    return make_linear(weight.contiguous(), torch.cat(biases) if biases else None)
