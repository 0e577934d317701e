"""Freed memory is gone: a process in which whoever touches it is ended at once.

`python -m tests.support.kernels.freed_memory` runs each CPU kernel that works on memory of its own. glibc is
told to give every block a mapping, which goes back with the block, so that a kernel that frees its scratch
too early does not write into what is somebody else's by then, unnoticed, but ends the process.
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
from collections.abc import Callable

import torch

from octavo.kernels.attention_options import AttentionOptions
from octavo.kernels.attention_plan import SequenceSpan
from octavo.kernels.cpu.attention import paged_decode, paged_prefill
from octavo.kernels.cpu.products.pack_grouped import pack_grouped
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from octavo.kernels.cpu.sampling import long_rows
from octavo.kernels.decode_rows import DecodeTables, make_decode_rows
from octavo.kernels.prefill_chunks import make_prefill_chunks
from octavo.kernels.reference.weight_only import QuantizedWeight
from tests.support.kernels.paged_batches import paged_batch

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LEAST_BYTES = 512
_DTYPES = (torch.float32, torch.bfloat16)


class Unmapping:
    """glibc, told to give every block from `_LEAST_BYTES` on a mapping. Raises: `AttributeError` where the C
    library is another."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        assert library.mallopt(_M_ARENA_MAX, 1) == 1
        assert library.mallopt(_M_MMAP_THRESHOLD, _LEAST_BYTES) == 1
        self._allocate = library.malloc
        self._allocate.restype, self._allocate.argtypes = ctypes.c_size_t, [ctypes.c_size_t]

    def use_up(self) -> None:
        """Takes what lies free already, which is given out before anything is mapped; never given back."""
        size = 2**20
        while size >= _LEAST_BYTES:
            while not self._is_mapped(self._allocate(size)):
                pass
            size //= 2

    @staticmethod
    def _is_mapped(block: int) -> bool:
        return bool(ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value & 2)


def attend(dtype: torch.dtype, rows: list[int]) -> torch.Tensor:
    """Of two sequences, as prompts or, with a row each, as decodes."""
    lengths = [300, 70]
    batch = paged_batch(lengths, rows, heads=4, kv_heads=2, head_dim=64, page=16, dtype=dtype)
    beside = torch.zeros(sum(rows), 4, 64, dtype=dtype)
    heads = torch.cat([batch.query, beside], dim=1)
    out = torch.full((sum(rows), 4 * 64), torch.nan, dtype=dtype)
    tables = batch.block_tables.tolist()
    spans = [SequenceSpan(*row) for row in zip(rows, lengths, tables, strict=True)]
    options = AttentionOptions(scale=0.125)
    if max(rows) == 1:
        paged_decode.paged_decode(
            heads, batch.cache, make_decode_rows(spans, 16, DecodeTables(0, 0)), options, out
        )
    else:
        chunks = make_prefill_chunks(spans, 16)
        paged_prefill.paged_prefill(heads, batch.cache, chunks, options, out)
    return out


def draw(dtype: torch.dtype) -> torch.Tensor:
    logits = torch.randn(2, 9000).to(dtype)
    best = logits.float().amax(dim=1)
    numbers = torch.arange(2)
    return long_rows.arrivals(logits, best, torch.ones(2), numbers, numbers)


def multiply(dtype: torch.dtype, *, is_grouped: bool) -> torch.Tensor:
    if is_grouped:
        codes = torch.randint(-8, 8, (64, 128), dtype=torch.int8)
        zeros = torch.zeros(64, 4, dtype=torch.int8)
        grouped = QuantizedWeight(codes, torch.rand(64, 4), zeros)
        panels = pack_grouped(grouped, PanelFormat.GROUPED_INT8)
    else:
        panels = pack(torch.randn(64, 128), PanelFormat.INT8)
    return PanelLinear(panels, dtype, None)(torch.randn(20, 128).to(dtype))


KERNELS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "prompts": lambda dtype: attend(dtype, [200, 70]),
    "decodes": lambda dtype: attend(dtype, [1, 1]),
    "draws": draw,
    "panels": lambda dtype: multiply(dtype, is_grouped=False),
    "grouped panels": lambda dtype: multiply(dtype, is_grouped=True),
}


def main() -> None:
    faulthandler.enable()
    unmapping = Unmapping()
    for name, dtype, threads in itertools.product(KERNELS, _DTYPES, (1, 2)):
        print(name, dtype, f"{threads} threads", flush=True)
        torch.set_num_threads(threads)
        KERNELS[name](dtype)  # loads it, which leaves memory free
        unmapping.use_up()
        assert KERNELS[name](dtype).isfinite().all()


if __name__ == "__main__":
    main()
