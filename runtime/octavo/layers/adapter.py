"""Low-rank adapters (LoRA, Hu et al., 2021) of products: what a row's adapter adds to the base model's.

The base product stays as it is, in whatever form its weight has, and each row of a step may have another
adapter or none. An adapter's own product, `x @ A.T @ B.T`, is two thin ones; several products of the same
input side by side have one `A`, their ranks one after the other, and each its own `B`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from octavo.layers.linear import Linear
from octavo.layers.step import Step

# Of so many rows one wide product with zeros is faster than a thin one for each part.
_FEW_ROWS = 16


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """The second half of one of the products side by side.

    Args:
        outputs: Of the whole product, those that it adds to.
        ranks: Of what the first half gives, those that it takes.
        weight: `[outputs, ranks]`, scaled.
    """

    outputs: slice
    ranks: slice
    weight: torch.Tensor


class AdapterProduct:
    """What one adapter adds to one product.

    Args:
        down: `[rows, in_features] -> [rows, ranks of all parts]`.
        parts: Of the products side by side, those that the adapter changes.
        up: `[rows, ranks of all parts] -> [rows, out_features]`, all parts in one; None: not so.
    """

    __slots__ = ("_down", "_parts", "_up")

    def __init__(
        self, down: Linear, parts: Sequence[AdapterPart], up: Linear | None = None
    ) -> None:
        self._down = down
        self._parts = parts
        self._up = up

    def add_to(self, out: torch.Tensor, x: torch.Tensor) -> None:
        """Adds the product with `x` `[rows, in_features]` to `out` `[rows, out_features]`."""
        inner = self._down(x)
        if self._up is not None and x.shape[0] <= _FEW_ROWS:
            out.add_(self._up(inner))
            return
        for part in self._parts:
            out[:, part.outputs].addmm_(inner[:, part.ranks], part.weight.T)


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
