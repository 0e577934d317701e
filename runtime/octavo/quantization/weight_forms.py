"""Weight forms: the contract of how a device holds the weights of quantised products.

Schemes read what is stored, or round it; forms say in which shape it is multiplied, and how many bytes it
has then.
"""

from __future__ import annotations

from typing import Protocol

import torch

from octavo.config import Quantization
from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.layers.linear import Linear, PlainWeight


class WeightForms(Protocol):
    def plain(self, weight: PlainWeight, *, is_head: bool = False) -> Linear:
        """A weight as it is. `is_head`: the product scores the vocabulary."""
        ...

    def stored(
        self,
        code: Code,
        weight: QuantizedWeight,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        *,
        is_head: bool = False,
        inputs: RoundedInputs | None = None,
        input_scale: torch.Tensor | None = None,
    ) -> Linear | None:
        """A quantised weight, no number of which changes; None where the device has no form for its sizes.

        Args:
            dtype: Of the activations.
            inputs: How the checkpoint rounds these, which a device may do without.
            input_scale: `[1]` float32, by which it divides them.
        """
        ...

    def stored_bytes(
        self,
        code: Code,
        width: int,
        depth: int,
        group: int,
        dtype: torch.dtype,
        *,
        has_zeros: bool,
        has_bias: bool,
        inputs: RoundedInputs | None = None,
    ) -> int | None:
        """What `stored` holds in memory, bias included."""
        ...

    def code(self, width: int, depth: int, rounding: Quantization) -> Code | None:
        """What `rounded` makes of a weight's numbers; None: it leaves them as they are."""
        ...

    def rounded(
        self, weight: PlainWeight, rounding: Quantization, *, is_head: bool = False
    ) -> Linear:
        """A weight, rounded as its sizes allow."""
        ...

    def rounded_bytes(
        self,
        width: int,
        depth: int,
        rounding: Quantization,
        dtype: torch.dtype,
        *,
        has_bias: bool,
    ) -> int:
        """What `rounded` holds in memory, bias included."""
        ...

    @property
    def rounds_tied_tables(self) -> bool:
        """Whether a rounded head gives the rows of its weight back, so that it can be the only copy."""
        ...


def plain_bytes(width: int, depth: int, dtype: torch.dtype, *, has_bias: bool) -> int:
    """Of a weight as it is, bias included."""
    return (width * depth + (width if has_bias else 0)) * dtype.itemsize
