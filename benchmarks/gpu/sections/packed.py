"""Products with packed weights: a decoder layer's four, in 4 bits, against the same in the model's dtype.

Several layers are timed in turn, so many that the L2 cache does not answer. `ratio` is the time of plain
products over that of packed ones: below 1 the plain ones are faster. `bandwidth_share` is the time that
reading the packed weights takes at the least over what the products took: a measure of few rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from benchmarks.gpu.context import Context
from benchmarks.gpu.formulas import ModelShape
from benchmarks.gpu.models import shape_of
from benchmarks.gpu.results import Row, SectionResult
from benchmarks.gpu.sections.attention import l2_bytes
from benchmarks.gpu.timing import device_seconds
from octavo.kernels.packed_weight import PackedWeight, pack
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.kernels.reference.weight_only import Code, quantize_int4

_L2_MULTIPLE = 3
_SHAPES = ("llama-3.1-8b", "qwen3-0.6b")
_SMOKE_SHAPES = ("tiny-llama",)
_ROWS = (1, 4, 16, 64, 256, 2048)
_SMOKE_ROWS = (1, 20)


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights `[outputs, inputs]`, plain and packed."""

    plain: list[torch.Tensor]
    packed: list[PackedWeight]

    @classmethod
    def of(cls, context: Context, shape: ModelShape) -> Layer:
        queries = shape.num_heads * shape.head_dim
        sizes = (
            (queries + 2 * shape.num_kv_heads * shape.head_dim, shape.hidden_size),
            (shape.hidden_size, queries),
            (2 * shape.intermediate_size, shape.hidden_size),
            (shape.hidden_size, shape.intermediate_size),
        )
        plain = [
            torch.empty(size, device=context.device, dtype=context.dtype).normal_(std=0.02)
            for size in sizes
        ]
        words = [pack(quantize_int4(one), Code.INT4, torch.bfloat16) for one in plain]
        return cls(plain, words)

    @property
    def plain_bytes(self) -> int:
        return sum(one.nbytes for one in self.plain)

    @property
    def packed_bytes(self) -> int:
        return sum(one.num_bytes for one in self.packed)

    def inputs(self, num_rows: int) -> list[torch.Tensor]:
        return [one.new_ones(num_rows, one.shape[1]) for one in self.plain]


def run(context: Context) -> SectionResult:
    for name in _SMOKE_SHAPES if context.scale.is_smoke else _SHAPES:
        _measure(context, name, shape_of(name))
    return context.result()


def _measure(context: Context, name: str, shape: ModelShape) -> None:
    """A function of its own: with it the weights' memory is given back."""
    layers = [Layer.of(context, shape)]
    while sum(one.packed_bytes for one in layers) < _L2_MULTIPLE * l2_bytes(context.device):
        layers.append(Layer.of(context, shape))
    kernels = _kernels(context)
    for num_rows in _SMOKE_ROWS if context.scale.is_smoke else _ROWS:
        row = _times(context, kernels, layers, num_rows)
        context.emit({"shape": name, "rows": num_rows, **row})


def _times(context: Context, kernels: DeviceKernels, layers: list[Layer], num_rows: int) -> Row:
    inputs = layers[0].inputs(num_rows)

    def packed(layer: Layer) -> Callable[[], None]:
        def call() -> None:
            for x, weight in zip(inputs, layer.packed, strict=True):
                kernels.packed_linear(x, weight)

        return call

    def plain(layer: Layer) -> Callable[[], None]:
        def call() -> None:
            for x, weight in zip(inputs, layer.plain, strict=True):
                F.linear(x, weight)

        return call

    ours = device_seconds([packed(layer) for layer in layers], context.device)
    theirs = device_seconds([plain(layer) for layer in layers], context.device)
    share = None
    if context.roofline is not None:
        share = context.share(layers[0].packed_bytes / context.roofline.bandwidth, ours)
    return {
        "packed_microseconds": round(ours * 1e6, 1),
        "plain_microseconds": round(theirs * 1e6, 1),
        "ratio": round(theirs / ours, 2),
        "bandwidth_share": share,
        "weight_bytes": layers[0].packed_bytes,
        "plain_bytes": layers[0].plain_bytes,
    }


def _kernels(context: Context) -> DeviceKernels:
    if context.device.type != "cuda":
        return reference
    from octavo.kernels.gpu import device as triton_kernels  # needs triton

    return triton_kernels
