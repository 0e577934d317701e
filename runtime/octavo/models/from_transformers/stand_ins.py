"""Stand-ins: modules without parameters that take the place of transformers' linear ones and embeddings, and
multiply with Octavo's products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from octavo.layers.linear import Linear, Lookup
from octavo.layers.moe import ChosenExperts
from octavo.layers.step import Step
from octavo.models.from_transformers.interface import Running
from octavo.models.stream import Reduce


class SharedProduct:
    """A product of which several modules, called with one input, give a part each. It runs once for all.

    Args:
        running: The model's step, whose rows these are, where adapters may change the product; None: none
            may, and whose rows they are is not said.
    """

    def __init__(
        self, linear: Linear, widths: Sequence[int], running: Running | None = None
    ) -> None:
        self._linear = linear
        self._widths = list(widths)
        self._running = running
        self._input: torch.Tensor | None = None
        self._parts: dict[int, torch.Tensor] = {}

    def part(self, x: torch.Tensor, index: int) -> torch.Tensor:
        """Of `[rows, in_features]` in any shape before that, part `index`, `[rows, its width]` alike."""
        if self._input is not x or index not in self._parts:
            rows = x.reshape(-1, x.shape[-1])
            if self._running is None:
                out = self._linear(rows)
            else:
                out = self._linear(rows.contiguous(), self._running.step)
            if len(self._widths) == 1:  # a head's may be of this rank's tokens alone
                self._parts = {0: out}
            else:
                self._parts = dict(enumerate(torch.split(out, self._widths, dim=-1)))
            self._input = x
        part = self._parts.pop(index)
        if not self._parts:
            self._input = None
        return part.contiguous().view(*x.shape[:-1], -1)


class SummedProduct:
    """A row-parallel product, whose partial sums are made whole.

    Args:
        inputs: Those of the rank, where what comes in is whole; None: they are all that comes.
    """

    plain: Final = None
    lookup: Final = None

    def __init__(self, linear: Linear, reduce: Reduce, inputs: range | None) -> None:
        self._linear = linear
        self._reduce = reduce
        self._inputs = inputs

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        if self._inputs is not None:
            x = x[:, self._inputs.start : self._inputs.stop].contiguous()
        return self._reduce(self._linear(x, step).contiguous())


class PlacedExperts:
    """Experts of a model in `dtype`.

    Args:
        reduce: Makes the sums of ranks whole, of which each has a part; None: they are.
    """

    def __init__(self, experts: ChosenExperts, dtype: torch.dtype, reduce: Reduce | None) -> None:
        self._experts = experts
        self._dtype = dtype
        self._reduce = reduce

    def __call__(
        self,
        x: torch.Tensor,
        experts: torch.Tensor,
        shares: torch.Tensor,
        num_live: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if x.dtype is not self._dtype:
            raise TypeError(f"Experts of {self._dtype} were called with {x.dtype}.")
        out = self._experts(x, experts, shares, num_live)
        return out if self._reduce is None else self._reduce(out)


class GatheredProduct:
    """A column-parallel product whose outputs every rank needs: each adds its own to the others' zeros.

    Args:
        outputs: Of each part, those of the rank.
        widths: Of the whole parts.
    """

    plain: Final = None
    lookup: Final = None

    def __init__(
        self, linear: Linear, reduce: Reduce, outputs: Sequence[range], widths: Sequence[int]
    ) -> None:
        self._linear = linear
        self._reduce = reduce
        self._outputs = list(outputs)
        self._widths = list(widths)

    def __call__(self, x: torch.Tensor, step: Step | None = None) -> torch.Tensor:
        own = self._linear(x, step)
        every = own.new_zeros(own.shape[0], sum(self._widths))
        first = first_own = 0
        for outputs, width in zip(self._outputs, self._widths, strict=True):
            place = slice(first + outputs.start, first + outputs.stop)
            every[:, place] = own[:, first_own : first_own + len(outputs)]
            first, first_own = first + width, first_own + len(outputs)
        return self._reduce(every)


class _StandIn(torch.nn.Module):
    """Until it is bound there is a weight without values: classes initialise those of their modules' parts by
    name while they are loaded."""

    def __init__(self, **parameters: Sequence[int]) -> None:
        super().__init__()
        for name, shape in parameters.items():
            tensor = torch.empty(*shape, device="meta")
            tensor._is_hf_initialized = True  # type: ignore[attr-defined]  # noqa: SLF001
            self.__dict__[name] = tensor
        self._names = tuple(parameters)

    def _forget_parameters(self) -> None:
        for name in self._names:
            self.__dict__.pop(name, None)


class ProductModule(_StandIn):
    """In place of a linear module."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(weight=(out_features, in_features), bias=(out_features,))
        self.in_features = in_features
        self.out_features = out_features
        self._product: SharedProduct | None = None
        self._index = 0
        self._dtype = torch.float32

    def bind(self, product: SharedProduct, index: int, dtype: torch.dtype) -> None:
        self._product, self._index, self._dtype = product, index, dtype
        self._forget_parameters()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._product is None:
            raise RuntimeError("A product was called before its weights were there.")
        if x.dtype is not self._dtype:
            raise TypeError(f"A product of {self._dtype} was called with {x.dtype}.")
        return self._product.part(x, self._index)


class LookupModule(_StandIn):
    """In place of an embedding."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__(weight=(count, width))
        self.padding_idx = None
        self._lookup: Lookup | None = None

    def bind(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._forget_parameters()

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        if self._lookup is None:
            raise RuntimeError("An embedding was called before its weights were there.")
        return self._lookup(indices.reshape(-1)).view(*indices.shape, -1)
