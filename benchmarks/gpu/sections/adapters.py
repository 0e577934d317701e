"""Products with adapters: a decoder layer's four with LoRA adapters of rank 16, against the same without.

Several layers are timed in turn, so many that the L2 cache does not answer. `ratio` is the time with adapters
over that without: all rows of one adapter, or of eight in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.gpu.context import Context
from benchmarks.gpu.formulas import ModelShape
from benchmarks.gpu.models import shape_of
from benchmarks.gpu.results import Row, SectionResult
from benchmarks.gpu.sections.attention import l2_bytes
from benchmarks.gpu.timing import device_seconds
from octavo.kernels.adapter_seats import SeatedProduct
from octavo.kernels.adapter_tiles import AdapterTiles, tile_section, tiles_of
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.layers.projection import Projection
from octavo.loading import Placement
from octavo.loading.adapter import LowRank
from octavo.models.adapters import Target
from octavo.models.seated_adapters import SeatedAdapters
from octavo.quantization.forms import PlainLinear

_RANK = 16
_SEATS = 8
_L2_MULTIPLE = 3
_SHAPES = ("llama-3.1-8b", "qwen3-0.6b")
_SMOKE_SHAPES = ("tiny-llama",)
_ROWS = (1, 8, 32, 256, 2048)
_SMOKE_ROWS = (1, 20)


@dataclass(frozen=True, slots=True)
class Layer:
    """Its products, and the adapters of each."""

    plain: list[PlainLinear]
    seated: list[SeatedProduct]

    @classmethod
    def of(cls, context: Context, shape: ModelShape, kernels: DeviceKernels) -> Layer:
        placement = Placement(context.dtype, context.device)
        adapters = SeatedAdapters(placement, "", _RANK, num_seats=_SEATS, kernels=kernels)
        plain, seated, targets = [], [], []
        for place, projection in enumerate(_projections(shape)):
            weight = placement.empty(projection.width, projection.in_features).normal_(std=0.02)
            plain.append(PlainLinear(weight, None))
            targets.append(Target(place, projection))
            seated.append(adapters.changing(plain[-1], targets[-1]))
        adapters.finish()
        changes = [(target, _matrices(target.own)) for target in targets]
        for adapter_id in range(_SEATS):
            adapters.take(adapter_id, changes)
        adapters.seats_of(range(_SEATS))
        return cls(plain, [one.product for one in seated if one.product is not None])

    @property
    def num_bytes(self) -> int:
        return sum(one.plain.weight.nbytes for one in self.plain)


def run(context: Context) -> SectionResult:
    for name in _SMOKE_SHAPES if context.scale.is_smoke else _SHAPES:
        _measure(context, name, shape_of(name))
    return context.result()


def _measure(context: Context, name: str, shape: ModelShape) -> None:
    """A function of its own: with it the weights' memory is given back."""
    kernels = _kernels(context)
    layers = [Layer.of(context, shape, kernels)]
    while sum(one.num_bytes for one in layers) < _L2_MULTIPLE * l2_bytes(context.device):
        layers.append(Layer.of(context, shape, kernels))
    for num_rows in _SMOKE_ROWS if context.scale.is_smoke else _ROWS:
        row = _times(context, kernels, layers, num_rows)
        context.emit({"shape": name, "rows": num_rows, **row})


def _times(context: Context, kernels: DeviceKernels, layers: list[Layer], num_rows: int) -> Row:
    inputs = [
        torch.ones(num_rows, one.plain.weight.shape[1], device=context.device, dtype=context.dtype)
        for one in layers[0].plain
    ]

    def calls(tiles: AdapterTiles | None) -> list[Callable[[], None]]:
        def of(layer: Layer) -> Callable[[], None]:
            def call() -> None:
                for x, plain, seated in zip(inputs, layer.plain, layer.seated, strict=True):
                    out = plain(x)
                    if tiles is not None:
                        inner = kernels.adapter_shrink(x, seated, tiles)
                        kernels.adapter_expand(inner, seated, tiles, out)

            return call

        return [of(layer) for layer in layers]

    plain = device_seconds(calls(None), context.device)
    found: Row = {"plain_microseconds": round(plain * 1e6, 1)}
    for name, count in (("one", 1), ("eight", _SEATS)):
        tiles = _tiles(num_rows, count, context.device)
        seconds = device_seconds(calls(tiles), context.device)
        found[f"{name}_microseconds"] = round(seconds * 1e6, 1)
        found[f"{name}_ratio"] = round(seconds / plain, 2)
    return found


def _tiles(num_rows: int, num_adapters: int, device: torch.device) -> AdapterTiles:
    section, count = tile_section(np.arange(num_rows) % num_adapters, num_rows)
    return tiles_of(torch.from_numpy(section).to(device), count, num_rows)


def _projections(shape: ModelShape) -> list[Projection]:
    queries, keys = (count * shape.head_dim for count in (shape.num_heads, shape.num_kv_heads))
    inner, hidden = shape.intermediate_size, shape.hidden_size
    return [
        Projection(("q", "k", "v"), hidden, (queries, keys, keys)),
        Projection(("o",), queries, (hidden,)),
        Projection(("gate", "up"), hidden, (inner, inner)),
        Projection(("down",), inner, (hidden,)),
    ]


def _matrices(projection: Projection) -> dict[str, LowRank]:
    return {
        name: LowRank(torch.randn(_RANK, projection.in_features), torch.randn(width, _RANK), 0.01)
        for name, width in projection.stored_widths.items()
    }


def _kernels(context: Context) -> DeviceKernels:
    if context.device.type != "cuda":
        return reference
    from octavo.kernels.gpu import device as triton_kernels  # needs triton

    return triton_kernels
