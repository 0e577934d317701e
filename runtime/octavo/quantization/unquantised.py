"""Unquantised weights: every number as it is stored, in the form that is fastest where it is multiplied."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from octavo.kernels.aligned_rows import padded_width
from octavo.kernels.matrix_units import has_matrix_units
from octavo.kernels.narrow_floats import narrowed
from octavo.kernels.select import has_cpu_kernels
from octavo.layers.linear import Linear, Lookup, PlainWeight
from octavo.layers.projection import Projection
from octavo.layers.stored_weight import plain_weight
from octavo.loading import Placement, WeightSource
from octavo.quantization.forms import AlignedHead, PackedLinear, PlainLinear, table_lookup

# Up to this many elements a product is so short that dispatch is most of it, and a second thread does not
# pay. On the bundled model (65k to 330k elements) `SmallLinear` takes a quarter of oneDNN's time at 1 row,
# half at 8, and as long at 32.
_MAX_SMALL_ELEMENTS = 2**19
# Below this many elements oneDNN's dispatch costs more than its blocked layout saves.
_MIN_PACKED_ELEMENTS = 2**15


@dataclass(frozen=True, slots=True)
class Unquantised:
    """See `Scheme`.

    Args:
        is_plain: Weights stay as they are, for kernels that read them themselves, and the head's rows are
            aligned: what a GPU needs. False: what is fastest on a CPU.
        held_dtype: Of 16 bits, what a checkpoint's numbers are held in under float32; to tell beforehand what
            they take. None: what they are multiplied in.
    """

    is_plain: bool = False
    held_dtype: torch.dtype | None = None

    def load(self, projection: Projection, source: WeightSource, placement: Placement) -> Linear:
        return self.placed(plain_weight(projection, source, placement))

    def placed(self, weight: PlainWeight) -> Linear:
        """The product with a weight that is there."""
        return PlainLinear(weight.weight, weight.bias) if self.is_plain else fastest(weight)

    def load_head(
        self, projection: Projection, source: WeightSource, placement: Placement
    ) -> Linear:
        stored = plain_weight(projection, source, placement)
        return self.head(stored.weight, stored.bias)

    def head(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        whole_vocab: int | None = None,
    ) -> Linear:
        if not self.is_plain:
            return fastest(PlainWeight(weight, bias))
        if weight.shape[0] == padded_width(weight.shape[0]):
            return PlainLinear(weight, bias)
        return AlignedHead(weight, bias)

    def num_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        biases = (projection.width if projection.bias else 0) * dtype.itemsize
        width, depth = projection.width, projection.in_features
        if self._narrows(dtype) and _takes_narrow(width, depth):
            return _narrow_bytes(width, depth) + biases
        return projection.num_weights * dtype.itemsize + biases

    def table_bytes(self, projection: Projection, dtype: torch.dtype) -> int:
        """Of a table that is looked up alone; see `compact_lookup`."""
        size = projection.num_weights
        is_narrow = self._narrows(dtype) and size > _MAX_SMALL_ELEMENTS
        return size * (2 if is_narrow else dtype.itemsize)

    def _narrows(self, dtype: torch.dtype) -> bool:
        if self.is_plain or self.held_dtype is None:
            return False
        return dtype is torch.float32 and self.held_dtype.itemsize == 2

    def head_bytes(self, projection: Projection, dtype: torch.dtype, *, is_tied: bool) -> int:
        return self.num_bytes(projection, dtype)


def _takes_narrow(width: int, depth: int) -> bool:
    """Whether a weight in float32 of this size is held in 16 bits where its numbers have such a form."""
    if not has_cpu_kernels() or width * depth <= _MAX_SMALL_ELEMENTS:
        return False
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, fits  # needs numba

    return fits(width, depth, PanelFormat.BFLOAT16)


def _narrow_bytes(width: int, depth: int) -> int:
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, packed_bytes  # needs numba

    return packed_bytes(width, depth, PanelFormat.BFLOAT16)


def compact_lookup(table: torch.Tensor) -> Lookup:
    """As `table_lookup`, of a table that need be held for nothing else: one of a CPU in float32 in 16 bits
    where its numbers have such a form."""
    is_wide = table.dtype is torch.float32 and table.device.type == "cpu"
    narrow = narrowed(table) if is_wide and table.numel() > _MAX_SMALL_ELEMENTS else None
    if narrow is None:
        return table_lookup(table)
    rows = table_lookup(narrow)
    return lambda indices: rows(indices).float()


def fastest(weight: PlainWeight) -> Linear:
    """The form for a CPU that is the fastest for the weight's dtype and size; none changes a number.

    Of a weight in float32 whose numbers all have a form of 16 bits that form is held: it is read in half of
    the time.
    """
    linear = _kernel_linear(weight) if has_cpu_kernels() else None
    if linear is not None:
        return linear
    if (
        weight.weight.numel() >= _MIN_PACKED_ELEMENTS
        and weight.weight.dtype in (torch.float32, torch.bfloat16)
        and _can_pack(weight.weight.dtype)
    ):
        return PackedLinear(weight.weight, weight.bias)
    return PlainLinear(weight.weight, weight.bias)


def _kernel_linear(weight: PlainWeight) -> Linear | None:
    """One of our own kernels, where one takes the weight and is the fastest."""
    from octavo.kernels.cpu.products.pack_panels import pack  # needs numba
    from octavo.kernels.cpu.products.panel_linear import PanelLinear, registers_take
    from octavo.kernels.cpu.products.small_linear import SmallLinear
    from octavo.kernels.cpu.products.unpack_panels import has_pair_products
    from octavo.kernels.cpu.products.weight_panels import PanelFormat, takes

    matrix = weight.weight
    if (
        matrix.dtype is torch.bfloat16
        and takes(matrix, PanelFormat.BFLOAT16)
        and has_pair_products()
        and (not has_matrix_units() or registers_take(matrix.shape[1]))
    ):
        return PanelLinear(pack(matrix, PanelFormat.BFLOAT16), matrix.dtype, weight.bias)
    if matrix.numel() <= _MAX_SMALL_ELEMENTS and SmallLinear.takes(matrix):
        return SmallLinear(matrix, weight.bias)
    if matrix.dtype is torch.float32 and _takes_narrow(*matrix.shape):
        narrow = narrowed(matrix)
        if narrow is not None:
            panels = pack(narrow, PanelFormat.of(narrow.dtype))
            return PanelLinear(panels, torch.float32, weight.bias)
    return None


@functools.cache
def _can_pack(dtype: torch.dtype) -> bool:
    """oneDNN packs bfloat16 for CPUs with certain instructions alone, and says so when it is asked."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        PackedLinear(torch.zeros(16, 16, dtype=dtype), None)
    except (AttributeError, RuntimeError):
        return False
    return True
