"""A decoder layer whose steps of a few rows take six launches instead of nine.

With a few rows every product is a stream of weights, and each launch costs about as long as a small one of
them takes: norms, gating and sums ride along with the products. The residual stream is whole after each
half, so nothing is left for the next layer to add.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from octavo.kernels.protocols.layers import FewRowKernels
from octavo.layers.attention import AttentionStep
from octavo.layers.linear import PlainLinear
from octavo.layers.mlp import GatedMLP

if TYPE_CHECKING:
    from octavo.models.decoder_layer import DecoderLayer


class FusedLayer:
    """Runs `layer` itself where a step has more rows than `kernels` fuse.

    Args:
        products: `layer`'s queries, keys and values; output; gate and up; down. Both forms read them.
        is_gelu: The gate's activation: the tanh form of GELU in place of SiLU.
    """

    __slots__ = ("_is_gelu", "_kernels", "_layer", "_products")

    def __init__(
        self,
        layer: DecoderLayer,
        products: Sequence[PlainLinear],
        kernels: FewRowKernels,
        *,
        is_gelu: bool,
    ) -> None:
        self._layer = layer
        self._products = products
        self._kernels = kernels
        self._is_gelu = is_gelu

    @classmethod
    def of(cls, layer: DecoderLayer, kernels: FewRowKernels, *, is_gelu: bool) -> FusedLayer | None:
        """None for experts, and where a product but the first has a bias."""
        attention, mlp = layer.attention, layer.mlp
        if not isinstance(mlp, GatedMLP):
            return None
        products = [
            product
            for product in (attention.qkv, attention.output, mlp.gate_up, mlp.down)
            if isinstance(product, PlainLinear)
        ]
        if len(products) < 4 or any(product.bias is not None for product in products[1:]):
            return None
        return cls(layer, products, kernels, is_gelu=is_gelu)

    def __call__(
        self,
        residual: torch.Tensor,
        delta: torch.Tensor | None,
        cache: torch.Tensor,
        step: AttentionStep,
    ) -> torch.Tensor | None:
        """As `DecoderLayer`; None where nothing is left to be added."""
        layer, kernels = self._layer, self._kernels
        if residual.shape[0] > kernels.max_fused_rows:
            return layer(residual, delta, cache, step)
        if delta is not None:
            residual.add_(delta)
        qkv, output, gate_up, down = self._products
        norm = layer.attention_norm
        heads = kernels.norm_linear(residual, norm.weight, norm.eps, qkv.weight, qkv.bias)
        attended = layer.attention.attend(heads, cache, step)
        kernels.linear_add(attended, output.weight, residual)
        norm = layer.mlp_norm
        inner = kernels.norm_gate_up(
            residual, norm.weight, norm.eps, gate_up.weight, is_gelu=self._is_gelu
        )
        kernels.linear_add(inner, down.weight, residual)
        return None
