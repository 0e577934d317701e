"""Decoder layer's products at one to four rows: what is fused against norms, products and gates apart.

Attention is left out: both forms have the same. Several layers are timed in turn, so many that the L2 cache
does not answer. `ratio` is the time of the parts over the fused form's: below 1 the parts are faster.
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
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference

_EPS = 1e-5
_L2_MULTIPLE = 3
_SHAPES = ("llama-3.1-8b", "qwen3-0.6b")
_SMOKE_SHAPES = ("tiny-llama",)


@dataclass(frozen=True, slots=True)
class Products:
    """One layer's weights, `[outputs, inputs]` each, and its norms' `[hidden]`."""

    norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor

    @property
    def nbytes(self) -> int:
        return sum(w.nbytes for w in (self.qkv, self.output, self.gate_up, self.down))

    def fused(self, kernels: DeviceKernels, residual: torch.Tensor, attended: torch.Tensor) -> None:
        kernels.norm_linear(residual, self.norm, _EPS, self.qkv)
        kernels.linear_add(attended, self.output, residual)
        inner = kernels.norm_gate_up(residual, self.norm, _EPS, self.gate_up)
        kernels.linear_add(inner, self.down, residual)

    def apart(self, kernels: DeviceKernels, residual: torch.Tensor, attended: torch.Tensor) -> None:
        """As steps of more rows run; `attended`, cut to size, stands for what the layer before left."""
        before = attended[:, : residual.shape[1]]
        F.linear(kernels.add_rms_norm(residual, before, self.norm, _EPS), self.qkv)
        delta = F.linear(attended, self.output)
        hidden = kernels.add_rms_norm(residual, delta, self.norm, _EPS)
        F.linear(kernels.silu_and_mul(F.linear(hidden, self.gate_up)), self.down)


def run(context: Context) -> SectionResult:
    for name in _SMOKE_SHAPES if context.scale.is_smoke else _SHAPES:
        _measure(context, name, shape_of(name))
    return context.result()


def _measure(context: Context, name: str, shape: ModelShape) -> None:
    """A function of its own: with it the weights' memory is given back."""
    layers = [_products(context, shape)]
    while sum(layer.nbytes for layer in layers) < _L2_MULTIPLE * l2_bytes(context.device):
        layers.append(_products(context, shape))
    kernels = _kernels(context)
    for num_rows in range(1, kernels.max_fused_rows + 1):
        context.emit(
            {"shape": name, "rows": num_rows, **_times(context, kernels, layers, num_rows)}
        )


def _times(context: Context, kernels: DeviceKernels, layers: list[Products], num_rows: int) -> Row:
    residual, attended = (
        torch.randn(num_rows, width, device=context.device, dtype=context.dtype)
        for width in (layers[0].norm.shape[0], layers[0].output.shape[1])
    )

    def call(run: Callable[..., None]) -> Callable[[], None]:
        return lambda: run(kernels, residual, attended)

    fused = device_seconds([call(layer.fused) for layer in layers], context.device)
    apart = device_seconds([call(layer.apart) for layer in layers], context.device)
    share = None
    if context.roofline is not None:
        share = context.share(layers[0].nbytes / context.roofline.bandwidth, fused)
    return {
        "fused_microseconds": round(fused * 1e6, 1),
        "apart_microseconds": round(apart * 1e6, 1),
        "ratio": round(apart / fused, 2),
        "fused_bandwidth_share": share,
    }


def _products(context: Context, shape: ModelShape) -> Products:
    def weight(outputs: int, inputs: int) -> torch.Tensor:
        empty = torch.empty(outputs, inputs, device=context.device, dtype=context.dtype)
        return empty.normal_(std=inputs**-0.5)

    queries = shape.num_heads * shape.head_dim
    width = shape.intermediate_size
    return Products(
        norm=torch.ones(shape.hidden_size, device=context.device, dtype=context.dtype),
        qkv=weight(queries + 2 * shape.num_kv_heads * shape.head_dim, shape.hidden_size),
        output=weight(shape.hidden_size, queries),
        gate_up=weight(2 * width, shape.hidden_size),
        down=weight(shape.hidden_size, width),
    )


def _kernels(context: Context) -> DeviceKernels:
    if context.device.type != "cuda":
        return reference
    from octavo.kernels.gpu import device as triton_kernels  # needs triton

    return triton_kernels
