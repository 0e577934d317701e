"""Rows as wide as a vocabulary, each beginning at an aligned address whatever that width is.

A model that was fine-tuned with a token more has 32,001 of them. Of rows that lie one right behind the other
all but a few then begin at an odd address: a GPU reads and writes them value by value. Rows of this module
are as far apart as the next multiple of `ROW_MULTIPLE`; what lies between two may be read and means nothing.
"""

from __future__ import annotations

from typing import Final

import torch

# Values: 128 bytes of the narrowest dtype here, and whole tiles of any matrix product.
ROW_MULTIPLE: Final = 64
# Of any dtype here, values that one load takes at the most.
READ_AT_ONCE: Final = 16


def padded_width(width: int) -> int:
    """Values from one row to the next."""
    return -(-width // ROW_MULTIPLE) * ROW_MULTIPLE


def aligned_rows(
    count: int, width: int, *, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Memory without values, `[count, width]`."""
    return torch.empty(count, padded_width(width), dtype=dtype, device=device)[:, :width]


def readable_width(rows: torch.Tensor, multiple: int = READ_AT_ONCE) -> int:
    """How far each of `rows` `[count, width]` may be read: to the next multiple of `multiple` values where
    rows are such multiples apart and the last one's memory goes on so far, else to `width`."""
    count, width = rows.shape
    readable = -(-width // multiple) * multiple
    stride = rows.stride(0)
    if stride % multiple or (count > 1 and stride < readable):
        return width
    end = rows.storage_offset() + (count - 1) * stride + readable
    return readable if end * rows.element_size() <= rows.untyped_storage().nbytes() else width
