"""Sampling. Draws tokens by the Gumbel-max trick without sorting, in two launches, or three with filters.

1. `_scan`: every chunk of every row at once. Rows without filters are perturbed there and leave their best
   token; others leave their mass and the best logit of each group of 32 tokens.
2. `list_best_groups`: lists the few best groups, so that what follows reads some thousand tokens and not all.
3. `_finish`: rows without filters take the best of their chunks. For others the thresholds of top-k and
   top-p are found by bisection over the bits of the logits, exactly, within the list; where the filters
   reach beyond it (a flat distribution, a large k) the list is the whole row.

Masses are sums of integers, hence the same in any order, and thresholds are exact: what is kept is what
the reference keeps by sorting, but where the device's `exp` rounds a mass to the other side of a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.aligned_rows import readable_width
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options, pointer_to
from octavo.kernels.gpu.sampling.filters import SHIFTS, is_filtered_row, list_best_groups
from octavo.kernels.gpu.sampling.token_groups import (
    GROUP,
    MASS_UNIT,
    above,
    gumbel,
    largest_below,
    load_groups,
    load_listed,
    order_key,
    threshold_key,
)
from octavo.kernels.gpu.tuning.streaming import (
    SAMPLING_LIST_GROUPS,
    SAMPLING_LIST_TILE,
    SAMPLING_SCAN_TILE,
)
from octavo.kernels.reference.sampling.sample import (
    MAX_VOCABULARY,
    MIN_TEMPERATURE,
    SamplingTensors,
)

__all__ = ["SamplingTensors", "sample"]

_MIN_TEMPERATURE = tl.constexpr(MIN_TEMPERATURE)
# A program for a row: with eight, a thread holds so many values that some are spilled.
_FINISH_WARPS = 16


def sample(logits: torch.Tensor, tensors: SamplingTensors) -> torch.Tensor:
    """One token for each row: `[rows, vocab]` of any float dtype to `[rows]` int64.

    An odd vocabulary's rows are read as fast as any where they are apart: see `octavo.kernels.aligned_rows`.

    Raises:
        ValueError: The vocabulary has more than 2**19 tokens, or rows are not contiguous.
    """
    rows, vocab = logits.shape
    if vocab > MAX_VOCABULARY:
        raise ValueError(f"vocabulary of {vocab} tokens; sampling holds {MAX_VOCABULARY}")
    if logits.shape[1] > 1 and logits.stride(1) != 1:
        raise ValueError(f"logits has strides {logits.stride()}; the last must be 1")
    device = logits.device
    out = torch.empty(rows, dtype=torch.int64, device=device)
    if rows == 0:
        return out
    chunks = triton.cdiv(vocab, SAMPLING_SCAN_TILE.columns)
    groups = triton.cdiv(vocab, GROUP.value)
    best = torch.empty(rows, chunks, dtype=torch.float32, device=device)
    best_ids = torch.empty(rows, chunks, dtype=torch.int32, device=device)
    mass = torch.empty(rows, chunks, dtype=torch.int64, device=device)
    group_best = torch.empty(rows, groups, dtype=torch.float32, device=device)
    # First the number of groups in the list, then the key that they reach, then the groups.
    lists = torch.empty(rows, 2 + SAMPLING_LIST_GROUPS, dtype=torch.int32, device=device)
    filters = (tensors.temperature, tensors.top_k, tensors.top_p, tensors.min_p)
    stream = (tensors.seed, tensors.position)
    has_filters = tensors.has_filters
    readable = readable_width(logits, GROUP.value)
    _scan[(rows, chunks)](
        logits, logits.stride(0), *filters, *stream, best, best_ids, mass, group_best,
        **_scan_constants(vocab, readable, has_filters),
        **launch_options(SAMPLING_SCAN_TILE.num_warps, 1),
    )  # fmt: skip
    if has_filters and groups > SAMPLING_LIST_GROUPS:
        list_best_groups(group_best, *filters, lists, vocab, SHIFTS.get(logits.dtype, 0))
    _finish[(rows,)](
        logits, logits.stride(0), *filters, *stream, best, best_ids, mass, lists, out,
        **_finish_constants(vocab, readable, logits.dtype, has_filters),
        **launch_options(_FINISH_WARPS, 1),
    )  # fmt: skip
    return out


def _scan_constants(vocab: int, readable: int, has_filters: bool) -> dict[str, int]:
    return {
        "VOCAB": vocab,
        "READABLE": readable,
        "HAS_FILTERS": has_filters,
        "COLUMNS": SAMPLING_SCAN_TILE.columns,
    }


def _finish_constants(
    vocab: int, readable: int, dtype: torch.dtype, has_filters: bool
) -> dict[str, int]:
    chunks = triton.cdiv(vocab, SAMPLING_SCAN_TILE.columns)
    return {
        "VOCAB": vocab,
        "READABLE": readable,
        "CHUNKS": chunks,
        "PADDED_CHUNKS": triton.next_power_of_2(chunks),
        "CAPACITY": SAMPLING_LIST_GROUPS,
        "TILE": min(SAMPLING_LIST_TILE, triton.next_power_of_2(triton.cdiv(vocab, GROUP.value))),
        "SHIFT": SHIFTS.get(dtype, 0),
        "HAS_FILTERS": has_filters,
    }


@triton.jit
def _scan(
    logits,
    row_stride,
    temperature,
    top_k,
    top_p,
    min_p,
    seed,
    position,
    best,
    best_ids,
    mass,
    group_best,
    VOCAB: tl.constexpr,
    READABLE: tl.constexpr,
    HAS_FILTERS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    GROUPS: tl.constexpr = (VOCAB + GROUP - 1) // GROUP
    CHUNKS: tl.constexpr = (VOCAB + COLUMNS - 1) // COLUMNS
    first = chunk * (COLUMNS // GROUP)
    group = first + tl.arange(0, COLUMNS // GROUP)
    scores = load_groups(logits + row * row_stride, group, group < GROUPS, VOCAB, READABLE)
    heat = tl.load(temperature + row)
    inverse = tl.div_rn(1.0, tl.maximum(heat, _MIN_TEMPERATURE))
    is_filtered = False
    if HAS_FILTERS:
        is_filtered = is_filtered_row(heat, top_k + row, top_p + row, min_p + row, VOCAB)
    place = row * CHUNKS + chunk
    if is_filtered:
        top = tl.max(scores)
        # A chunk may be all -inf, whose difference to itself is no number.
        weights = tl.exp((scores - tl.where(top == float("-inf"), 0.0, top)) * inverse)
        tl.store(best + place, top)
        tl.store(mass + place, tl.sum((weights * MASS_UNIT).to(tl.int64)))
        tl.store(group_best + row * GROUPS + group, tl.max(scores, axis=1), group < GROUPS)
    else:
        if heat > 0:
            noise = gumbel(tl.load(seed + row), tl.load(position + row), group)
            scores = scores * inverse + noise
        top = tl.max(scores)
        token = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
        # Not the index that a maximum returns: of a reshaped tensor Triton 3.9 returns another one's, as it
        # takes the order of elements to be free before a reduction.
        winner = tl.min(tl.where(scores == top, token, VOCAB))
        tl.store(best + place, top)
        tl.store(best_ids + place, winner)


@triton.jit
def _finish(
    logits,
    row_stride,
    temperature,
    top_k,
    top_p,
    min_p,
    seed,
    position,
    best,
    best_ids,
    mass,
    lists,
    out,
    VOCAB: tl.constexpr,
    READABLE: tl.constexpr,
    CHUNKS: tl.constexpr,
    PADDED_CHUNKS: tl.constexpr,
    CAPACITY: tl.constexpr,
    TILE: tl.constexpr,
    SHIFT: tl.constexpr,
    HAS_FILTERS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    heat = tl.load(temperature + row)
    is_filtered = False
    if HAS_FILTERS:
        is_filtered = is_filtered_row(heat, top_k + row, top_p + row, min_p + row, VOCAB)
    chunk = tl.arange(0, PADDED_CHUNKS)
    tops = tl.load(best + row * CHUNKS + chunk, chunk < CHUNKS, other=float("-inf"))
    if is_filtered:
        inverse = tl.div_rn(1.0, tl.maximum(heat, _MIN_TEMPERATURE))
        masses = tl.load(mass + row * CHUNKS + chunk, chunk < CHUNKS, other=0)
        top = tl.max(tops)
        shares = tl.exp((tops - top) * inverse).to(tl.float64)
        # As integers: a float product goes unrounded into the sum of the thread that made it (an FMA), and
        # threads that hold the same chunk would get sums that differ.
        total = tl.sum((masses.to(tl.float64) * shares).to(tl.int64)).to(tl.float64)
        token = _draw_filtered(
            logits + row * row_stride, lists + row * (2 + CAPACITY), top, total, inverse,
            tl.load(top_k + row), tl.load(top_p + row), tl.load(min_p + row),
            tl.load(seed + row), tl.load(position + row), VOCAB, READABLE, CAPACITY, TILE, SHIFT,
        )  # fmt: skip
    else:
        _, winner = tl.max(tops, axis=0, return_indices=True, return_indices_tie_break_left=True)
        token = tl.load(best_ids + row * CHUNKS + winner)
    tl.store(out + row, token.to(tl.int64))


@triton.jit
def _draw_filtered(
    row, list_row, top, total, inverse, k, p, min_p, seed, position,
    VOCAB: tl.constexpr, READABLE: tl.constexpr,
    CAPACITY: tl.constexpr, TILE: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """A token id, drawn among those that the filters keep."""
    ALL: tl.constexpr = (VOCAB + GROUP - 1) // GROUP
    listed = list_row + 2
    has_k = (k > 0) & (k < VOCAB)
    has_p = p < 1.0
    limit = p.to(tl.float64) * total
    is_narrow = tl.full([], 0, tl.int1)
    size = tl.full([], ALL, tl.int32)
    threshold = tl.full([], -0x7FFFFFFF, tl.int64)
    if ALL > CAPACITY:
        found = tl.load(list_row)
        if found > 0:
            # The list holds all that is kept if the tokens that reach its key are k, or hold p of the
            # mass, or include all that min-p may keep.
            bound = tl.load(list_row + 1).to(tl.int64)
            held, number = above(
                row, listed, found > 0, found, bound - 1, top, inverse, VOCAB, READABLE, TILE, SHIFT
            )
            beyond = tl.exp((largest_below(bound, SHIFT) - top) * inverse)
            holds_rest = (has_p & (held.to(tl.float64) >= limit)) | (beyond < min_p)
            if (has_k & (number >= k)) | ((k <= 0) | (k >= VOCAB)) & holds_rest:
                is_narrow = found > 0
                size = found
                threshold = bound
    high = order_key(top, SHIFT).to(tl.int64)
    # Top-k first, by number, then top-p, by mass.
    for by_mass in range(2):
        if tl.where(by_mass == 1, has_p, has_k):
            if has_k & (by_mass == 1):
                held, _ = above(
                    row, listed, is_narrow, size, threshold - 1, top, inverse,
                    VOCAB, READABLE, TILE, SHIFT,
                )  # fmt: skip
                limit = p.to(tl.float64) * held.to(tl.float64)
            threshold = threshold_key(
                row, listed, is_narrow, size, threshold - 1, high,
                tl.where(by_mass == 1, limit, k.to(tl.float64)), top, inverse, by_mass == 1,
                VOCAB, READABLE, TILE, SHIFT,
            )  # fmt: skip
    return _draw_above(
        row, listed, is_narrow, size, threshold, high, top, inverse, min_p, seed, position,
        VOCAB, READABLE, TILE, SHIFT,
    )  # fmt: skip


@triton.jit
def _draw_above(
    row, listed, is_narrow, size, threshold, high, top, inverse, min_p, seed, position,
    VOCAB: tl.constexpr, READABLE: tl.constexpr, TILE: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    best = tl.full([], float("-inf"), tl.float32)
    token = tl.full([], 0, tl.int32)
    for start in range(0, size, TILE):
        group, scores = load_listed(row, listed, is_narrow, size, start, VOCAB, READABLE, TILE)
        keys = order_key(scores, SHIFT)
        is_likely = (tl.exp((scores - top) * inverse) >= min_p) | (keys == high.to(tl.int32))
        kept = is_likely & (keys >= threshold.to(tl.int32))
        if tl.max(kept.to(tl.int32)) > 0:
            perturbed = scores * inverse + gumbel(seed, position, group)
            perturbed = tl.where(kept, perturbed, float("-inf"))
            ids = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
            here = tl.max(perturbed)
            first = tl.min(tl.where(perturbed == here, ids, VOCAB))
            token = tl.where(here > best, first, token)
            best = tl.maximum(here, best)
    return token


_ARGUMENTS = {
    "logits": "*bf16",
    "row_stride": "i32",
    "temperature": "*fp32",
    "top_k": "*i32",
    "top_p": "*fp32",
    "min_p": "*fp32",
    "seed": "*i64",
    "position": "*i64",
    "best": "*fp32",
    "best_ids": "*i32",
    "mass": "*i64",
    "group_best": "*fp32",
    "lists": "*i32",
    "out": "*i64",
}


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    """Of Qwen's vocabulary, and of one with a token more than a round number, in rows apart and not."""
    bf16, fp16, fp32 = torch.bfloat16, torch.float16, torch.float32
    qwen, odd = 151936, 32001
    apart = -(-odd // GROUP.value) * GROUP.value
    for name, steps, dtype, vocab, readable, has_filters, capabilities in (
        ("bf16", (_scan, _finish), bf16, qwen, qwen, True, (80, 90)),
        ("fp32", (_finish,), fp32, qwen, qwen, True, (80, 90)),
        ("odd-bf16", (_scan, _finish), bf16, odd, apart, True, (90,)),
        ("odd-fp32", (_finish,), fp32, odd, apart, True, (90,)),
        ("odd-dense-bf16", (_finish,), bf16, odd, odd, True, (90,)),
        # Steps of greedy and unfiltered rows alone, and the logits of a float16 model.
        ("unfiltered-fp16", (_scan, _finish), fp16, qwen, qwen, False, (90,)),
    ):
        forms = {
            _scan: (_scan_constants(vocab, readable, has_filters), SAMPLING_SCAN_TILE.num_warps),
            _finish: (_finish_constants(vocab, readable, dtype, has_filters), _FINISH_WARPS),
        }
        for step in steps:
            constants, num_warps = forms[step]
            yield ShippedConfiguration(
                name=f"{step.__name__[1:]}-{name}",
                kernel=step,
                arguments={**_ARGUMENTS, "logits": pointer_to(dtype)},
                constants=constants,
                num_warps=num_warps,
                num_stages=1,
                divisible=frozenset() if readable == odd else frozenset({"row_stride"}),
                capabilities=capabilities,
                max_narrow_loads=32 if readable == odd else 0,
            )
