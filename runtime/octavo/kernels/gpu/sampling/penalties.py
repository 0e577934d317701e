"""Penalties for tokens that a sequence holds already; see the reference for what is counted and how.

Rows without penalties cost one program's start; of others only logits that change are read and written.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.aligned_rows import readable_width
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.tuning.streaming import PENALTY_TILE

# Once per sequence and outside any graph: torch's own kernels, which do not wait either.
from octavo.kernels.reference.sampling.penalties import MAX_COUNT, set_tokens

__all__ = ["apply_penalties", "count_tokens", "set_tokens"]

_MAX_COUNT = tl.constexpr(MAX_COUNT)
_COUNT_ROWS = 128


def apply_penalties(
    logits: torch.Tensor,
    token_counts: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    """Penalises `logits` `[batch, vocab]` float32 in place: first repetition, then presence and frequency.

    Args:
        token_counts: `[state_rows, vocab]` int16.
        presence, frequency, repetition: `[batch]` float32; 0, 0 and 1 are off.
        rows: `[batch]` int32, the row of `token_counts` of each row of logits; below zero for a padding
            row, which stays.

    Raises:
        ValueError: `logits` is not float32 with contiguous rows.
    """
    if logits.dtype is not torch.float32 or (logits.shape[1] > 1 and logits.stride(1) != 1):
        raise ValueError(
            f"logits is {logits.dtype} with strides {logits.stride()}; penalties change float32 rows "
            "that are contiguous: convert once before"
        )
    batch, vocab = logits.shape
    if batch == 0:
        return
    _apply_penalties[(batch, triton.cdiv(vocab, PENALTY_TILE.columns))](
        logits, logits.stride(0), token_counts, token_counts.stride(0),
        presence, frequency, repetition, rows,
        **_constants(vocab, readable_width(token_counts)),
        **launch_options(PENALTY_TILE.num_warps, 1),
    )  # fmt: skip


def _constants(vocab: int, readable: int) -> dict[str, int]:
    return {"VOCAB": vocab, "READABLE": readable, "COLUMNS": PENALTY_TILE.columns}


def count_tokens(token_counts: torch.Tensor, rows: torch.Tensor, token_ids: torch.Tensor) -> None:
    """Adds one token to the output of each row.

    Args:
        token_counts: `[state_rows, vocab]` int16.
        rows: `[batch]` int32, all different; below zero for a padding row, which changes nothing.
        token_ids: `[batch]` integer.
    """
    batch = rows.shape[0]
    if batch:
        _count_tokens[(triton.cdiv(batch, _COUNT_ROWS),)](
            token_counts, token_counts.stride(0), rows, token_ids, batch,
            ROWS=_COUNT_ROWS, **launch_options(4, 1),
        )  # fmt: skip


@triton.jit
def _apply_penalties(
    logits,
    logits_stride,
    token_counts,
    counts_stride,
    presence,
    frequency,
    repetition,
    rows,
    VOCAB: tl.constexpr,
    READABLE: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64)
    row = tl.load(rows + line).to(tl.int64)
    fixed = tl.load(presence + line)
    each = tl.load(frequency + line)
    factor = tl.load(repetition + line)
    if (row >= 0) & ((fixed != 0.0) | (each != 0.0) | (factor != 1.0)):
        token = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        counts = tl.load(token_counts + row * counts_stride + token, token < READABLE, other=0)
        is_seen = (counts != 0) & (token < VOCAB)
        target = logits + line * logits_stride + token
        values = tl.load(target, is_seen, other=0.0)
        values = tl.where(values > 0, tl.div_rn(values, factor + 0.0 * values), values * factor)
        output = (counts.to(tl.int32) & _MAX_COUNT).to(tl.float32)
        values = tl.where(output > 0, values - (fixed + each * output), values)
        tl.store(target, values, is_seen)


@triton.jit(do_not_specialize=["batch"])
def _count_tokens(token_counts, counts_stride, rows, token_ids, batch, ROWS: tl.constexpr):
    line = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row = tl.load(rows + line, line < batch, other=-1).to(tl.int64)
    is_real = row >= 0
    token = tl.load(token_ids + line, is_real, other=0).to(tl.int64)
    target = token_counts + row * counts_stride + token
    old = tl.load(target, is_real, other=0)
    is_full = (old & _MAX_COUNT) == _MAX_COUNT
    tl.store(target, (old + 1).to(tl.int16), is_real & (is_full == 0))


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    floats = dict.fromkeys(("logits", "presence", "frequency", "repetition"), "*fp32")
    counts = {"token_counts": "*i16", "counts_stride": "i32", "rows": "*i32"}
    for name, vocab, readable in (("apply", 151936, 151936), ("apply-odd", 32001, 32016)):
        yield ShippedConfiguration(
            name=name,
            kernel=_apply_penalties,
            arguments={**floats, **counts, "logits_stride": "i32"},
            constants=_constants(vocab, readable),
            num_warps=PENALTY_TILE.num_warps,
            num_stages=1,
            divisible=frozenset({"logits_stride", "counts_stride"}),
        )
    yield ShippedConfiguration(
        name="count",
        kernel=_count_tokens,
        arguments={**counts, "token_ids": "*i64", "batch": "i32"},
        constants={"ROWS": _COUNT_ROWS},
        num_warps=4,
        num_stages=1,
        divisible=frozenset({"counts_stride"}),
    )
