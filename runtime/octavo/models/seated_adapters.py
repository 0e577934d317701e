"""Adapters of a device: their matrices wait in the host's memory, and those of a step have a seat in the
device's.

Seats are made with the model, so that what is measured beside it has the rest, and stay where they are:
recorded steps read them. Taking a seat is two copies, queued behind the steps that are under way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from octavo.errors import OutOfMemoryError
from octavo.kernels.adapter_seats import (
    ENTRY,
    UNIT,
    AdapterSeats,
    SeatedProduct,
    in_units,
    padded_rank,
    part_units,
)
from octavo.kernels.protocols.layers import AdapterKernels
from octavo.layers.linear import Linear
from octavo.layers.projection import Projection
from octavo.layers.seated_adapter import SeatedLinear
from octavo.loading import Placement
from octavo.models.adapters import Change, ModelAdapters, Target, parts_of
from octavo.models.seat_holders import SeatHolders

EMPTY_ADAPTER = -1
"""The id of an adapter without matrices, which is always there: what steps have that warm a device up."""


@dataclass(frozen=True, slots=True)
class _Image:
    """What a seat holds while an adapter has it, in the host's memory.

    Args:
        matrices: `[numbers]`, no more than the adapter has.
        table: `[parts, ENTRY]` int32.
    """

    matrices: torch.Tensor
    table: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Product:
    linear: SeatedLinear
    first_part: int
    depth: int
    widths: tuple[int, ...]


class SeatedAdapters(ModelAdapters):
    """See `ModelAdapters`.

    Args:
        num_seats: Different adapters of one step.
    """

    def __init__(
        self,
        placement: Placement,
        prefix: str,
        max_rank: int,
        *,
        num_seats: int,
        kernels: AdapterKernels,
    ) -> None:
        super().__init__(placement, prefix, max_rank)
        self.num_seats = num_seats
        self._kernels = kernels
        self._products: list[_Product] = []
        self._num_parts = 0
        self._images: dict[int, _Image] = {}
        self._holders = SeatHolders(num_seats)
        self._lying: dict[int, int] = {}  # by seat, whose matrices
        self._seats: AdapterSeats | None = None

    def changing(self, linear: Linear, target: Target) -> SeatedLinear:
        seated = SeatedLinear(linear, self._kernels)
        widths = tuple(target.own.stored_widths.values())
        self._products.append(_Product(seated, self._num_parts, target.own.in_features, widths))
        self._num_parts += len(widths)
        return seated

    def finish(self) -> None:
        rank = padded_rank(self.max_rank)
        units = sum(_seat_units(one.depth, one.widths, rank) for one in self._products)
        device = self.placement.device
        try:
            memory = self.placement.empty(self.num_seats, units * UNIT)
            shape = (self.num_seats, self._num_parts, ENTRY)
            table = torch.zeros(shape, dtype=torch.int32, device=device)
        except torch.OutOfMemoryError as error:
            size = self.num_seats * units * UNIT * self.placement.dtype.itemsize
            raise OutOfMemoryError(
                f"The GPU has no room beside the weights for {self.num_seats} adapters of rank "
                f"{self.max_rank}, which take {size / 2**30:.2f} GiB. Lower --max-loras or --max-lora-rank, "
                "or use a larger GPU."
            ) from error
        self._seats = AdapterSeats(memory, table)
        for one in self._products:
            one.linear.product = SeatedProduct(
                self._seats, one.first_part, one.depth, one.widths, rank
            )
        self._images[EMPTY_ADAPTER] = self._image(())

    def take(self, adapter_id: int, changes: Sequence[Change]) -> None:
        self._images[adapter_id] = self._image(changes)

    def remove(self, adapter_id: int) -> None:
        if self._images.pop(adapter_id, None) is not None:
            self._holders.leave(adapter_id)

    def seats_of(self, adapter_ids: Collection[int]) -> dict[int, int]:
        """The seat of each adapter of the next step; those that have none take one.

        Raises:
            ValueError: One was not added, or there are more than seats.
        """
        self._check_added(adapter_ids)
        seats = self._holders.seat(adapter_ids)
        self.sit_down(seats)
        return seats

    def sit_down(self, seats: Mapping[int, int]) -> None:
        """Each adapter of the next step has the seat that another rank found for it.

        Raises:
            ValueError: One was not added.
        """
        self._check_added(seats)
        for adapter_id, seat in seats.items():
            if self._lying.get(seat) != adapter_id:
                self._copy(self._images[adapter_id], seat)
                self._lying[seat] = adapter_id

    def _check_added(self, adapter_ids: Collection[int]) -> None:
        if unknown := sorted(set(adapter_ids) - self._images.keys()):
            raise ValueError(f"Adapters {unknown} were not added.")

    def _copy(self, image: _Image, seat: int) -> None:
        if self._seats is None:
            raise RuntimeError("Adapters take seats when the model is built.")
        count = image.matrices.shape[0]
        self._seats.memory[seat, :count].copy_(image.matrices, non_blocking=True)
        self._seats.table[seat].copy_(image.table, non_blocking=True)

    def _image(self, changes: Sequence[Change]) -> _Image:
        table = torch.zeros((self._num_parts, ENTRY), dtype=torch.int32)
        places: list[tuple[int, torch.Tensor]] = []
        units = 0
        for change in changes:
            first_part = self._products[change[0].place].first_part
            for part in parts_of(change):
                entry = [part.down.shape[0]]
                for matrix in (part.down, part.up.T):
                    entry.append(units)
                    places.append((units * UNIT, matrix))
                    units += in_units(matrix.numel())
                table[first_part + part.number, : len(entry)] = torch.tensor(entry)
        matrices = torch.zeros(units * UNIT, dtype=self.placement.dtype)
        for place, matrix in places:
            matrices[place : place + matrix.numel()].view(matrix.shape).copy_(matrix)
        if self.placement.device.type == "cuda":  # so that copies wait for nothing
            matrices, table = matrices.pin_memory(), table.pin_memory()
        return _Image(matrices, table)


def seat_bytes(products: Iterable[Projection], dtype: torch.dtype, max_rank: int) -> int:
    """Of one seat, where adapters of up to so many ranks may change what a rank has of these products."""
    rank, units, num_parts = padded_rank(max_rank), 0, 0
    for one in products:
        widths = tuple(one.stored_widths.values())
        units += _seat_units(one.in_features, widths, rank)
        num_parts += len(widths)
    return units * UNIT * dtype.itemsize + num_parts * ENTRY * torch.int32.itemsize


def _seat_units(depth: int, widths: Sequence[int], rank: int) -> int:
    return sum(part_units(depth, width, rank) for width in widths)
