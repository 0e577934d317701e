"""Adapters in the host's memory: each product has the matrices of all adapters, in the form that is fastest
there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from octavo.layers.adapter import AdaptedLinear, AdapterProduct
from octavo.layers.linear import Linear, PlainWeight
from octavo.loading import Placement
from octavo.models.adapters import Change, ModelAdapters, Target, parts_of
from octavo.quantization.unquantised import fastest

# Of more ranks a second copy of the weight, packed for few rows, is not worth its memory.
_MOST_PACKED_RANKS = 64


class HostAdapters(ModelAdapters):
    """See `ModelAdapters`."""

    def __init__(self, placement: Placement, prefix: str, max_rank: int) -> None:
        super().__init__(placement, prefix, max_rank)
        self._linears: list[AdaptedLinear] = []

    def changing(self, linear: Linear, target: Target) -> AdaptedLinear:
        self._linears.append(AdaptedLinear(linear))
        return self._linears[target.place]

    def take(self, adapter_id: int, changes: Sequence[Change]) -> None:
        products = [(change[0].place, self._product(change)) for change in changes]
        for place, product in products:
            self._linears[place].products[adapter_id] = product

    def remove(self, adapter_id: int) -> None:
        for linear in self._linears:
            linear.products.pop(adapter_id, None)

    def _product(self, change: Change) -> AdapterProduct:
        put = self.placement.put
        parts = list(parts_of(change))
        whole_down = torch.cat([put(part.down) for part in parts]).contiguous()
        ranks = whole_down.shape[0]
        whole_up = self.placement.empty(change[0].own.width, ranks).zero_()
        first_rank = 0
        for part in parts:
            own_ranks = slice(first_rank, first_rank + part.up.shape[1])
            whole_up[part.outputs, own_ranks] = put(part.up)
            first_rank = own_ranks.stop
        packed = fastest(PlainWeight(whole_up, None)) if ranks <= _MOST_PACKED_RANKS else None
        return AdapterProduct(fastest(PlainWeight(whole_down, None)), whole_up, packed)
