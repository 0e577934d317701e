"""Low-rank adapters (LoRA, Hu et al., 2021) of products: what a row's adapter adds to the base model's.

The base product stays as it is, in whatever form its weight has, and each row of a step may have another
adapter or none. An adapter's own product, `x @ A.T @ B.T`, is two thin ones; several products of the same
input side by side have one `A`, their ranks one after the other.
"""

from __future__ import annotations

from typing import Final

import torch

from octavo.layers.linear import Linear
from octavo.layers.step import Step

# Up to so many rows a packed weight is faster than torch's product that adds to what is there.
_FEW_ROWS = 16


class AdapterProduct:
    """What one adapter adds to one product.

    Of products side by side it has one second half too, with zeros where a product's outputs meet another's
    ranks: torch adds to whole rows several times as fast as to a part of each, for all the zeros.

    Args:
        down: `[rows, in_features] -> [rows, ranks]`, of all products side by side.
        up: `[out_features, ranks]`, scaled.
        packed_up: The same as a product for few rows; None: `up` is for them too.
    """

    __slots__ = ("_down", "_packed_up", "_up")

    def __init__(self, down: Linear, up: torch.Tensor, packed_up: Linear | None) -> None:
        self._down = down
        self._up = up
        self._packed_up = packed_up

    def add_to(self, out: torch.Tensor, x: torch.Tensor) -> None:
        """Adds the product with `x` `[rows, in_features]` to `out` `[rows, out_features]`."""
        inner = self._down(x)
        if self._packed_up is not None and x.shape[0] <= _FEW_ROWS:
            out.add_(self._packed_up(inner))
        else:
            out.addmm_(inner, self._up.T)


class AdaptedLinear:
    """A product to which the adapters of a step's rows add.

    Args:
        base: Of the model without adapters.
        products: By the adapter's id; changed while steps do not run. One that is not there changes nothing.
    """

    __slots__ = ("_base", "products")

    plain: Final = None
    lookup: Final = None

    def __init__(self, base: Linear) -> None:
        self._base = base
        self.products: dict[int, AdapterProduct] = {}

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        out = self._base(x, step)
        if step is None or not self.products:
            return out
        for adapter_id, rows in step.adapters:
            product = self.products.get(adapter_id)
            if product is None:
                continue
            if isinstance(rows, slice):
                product.add_to(out[rows], x[rows])
            else:
                picked = out.index_select(0, rows)
                product.add_to(picked, x.index_select(0, rows))
                out.index_copy_(0, rows, picked)
        return out
