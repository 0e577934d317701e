"""Seated adapters of a product: what a row's adapter adds, found by kernels on the device.

The host names no adapter in a launch. So one recorded step serves whichever adapters have seats when it is
replayed, and steps without adapters launch nothing here.
"""

from __future__ import annotations

from typing import Final

import torch

from octavo.kernels.adapter_seats import SeatedProduct
from octavo.kernels.protocols.layers import AdapterKernels
from octavo.layers.linear import Linear, PlainWeight
from octavo.layers.step import Step


class SeatedLinear:
    """A product to which the adapters of a step's rows add.

    Args:
        base: Of the model without adapters.
        product: Set when all products of the model are known; None before.
    """

    __slots__ = ("_base", "_kernels", "product")

    lookup: Final = None

    def __init__(self, base: Linear, kernels: AdapterKernels) -> None:
        self._base = base
        self._kernels = kernels
        self.product: SeatedProduct | None = None

    @property
    def plain(self) -> PlainWeight | None:
        """All there is in a step without adapters; others must not take it."""
        return self._base.plain

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        out = self._base(x, step)
        tiles, product = None if step is None else step.adapter_tiles, self.product
        if tiles is not None and product is not None:
            inner = self._kernels.adapter_shrink(x, product, tiles)
            self._kernels.adapter_expand(inner, product, tiles, out)
        return out
