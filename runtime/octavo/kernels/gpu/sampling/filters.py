"""Filters. Narrows a row of logits to the few groups of tokens that its filters may keep."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.gpu.sampling.token_groups import GROUP, order_key
from octavo.kernels.gpu.tuning.streaming import SAMPLING_LIST_GROUPS, SAMPLING_TARGET_GROUPS

# Low bits of a float32 that no logit of a dtype sets: they need no search.
SHIFTS = {torch.bfloat16: 16, torch.float16: 13}

_WARPS = 8
_LISTED_AT_ONCE = 8192


def list_best_groups(
    group_best: torch.Tensor,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    lists: torch.Tensor,
    vocab: int,
    shift: int,
) -> None:
    """Writes `lists` `[rows, 2 + SAMPLING_LIST_GROUPS]` int32 of rows with filters: how many groups are
    listed (0: no list of that size was found), the key that they reach, and the groups, ascending.

    Args:
        group_best: `[rows, groups]` float32, the best logit of each group of 32 tokens.
        shift: Of the dtype of the logits, see `SHIFTS`.
    """
    filters = (temperature, top_k, top_p, min_p)
    _list_groups[(group_best.shape[0],)](
        group_best, *filters, lists, **_constants(vocab, shift), **launch_options(_WARPS, 1)
    )


def _constants(vocab: int, shift: int) -> dict[str, int]:
    groups = triton.cdiv(vocab, GROUP.value)
    return {
        "GROUPS": groups,
        "PADDED": triton.next_power_of_2(groups),
        "PART": min(triton.next_power_of_2(groups), _LISTED_AT_ONCE),
        "VOCAB": vocab,
        "CAPACITY": SAMPLING_LIST_GROUPS,
        "TARGET": SAMPLING_TARGET_GROUPS,
        "SHIFT": shift,
    }


@triton.jit
def _list_groups(
    group_best,
    temperature,
    top_k,
    top_p,
    min_p,
    lists,
    GROUPS: tl.constexpr,
    PADDED: tl.constexpr,
    PART: tl.constexpr,
    VOCAB: tl.constexpr,
    CAPACITY: tl.constexpr,
    TARGET: tl.constexpr,
    SHIFT: tl.constexpr,
):
    """Finds a key that between TARGET (k, if it is more) and CAPACITY groups reach, and lists them.

    As many tokens at least reach that key, and all tokens that do are in the list.
    """
    row = tl.program_id(0).to(tl.int64)
    heat = tl.load(temperature + row)
    if is_filtered_row(heat, top_k + row, top_p + row, min_p + row, VOCAB):
        bests = group_best + row * GROUPS
        keys, inside = _keys_of_groups(bests, 0, GROUPS, PADDED, SHIFT)
        low = tl.min(tl.where(inside, keys, 0x7FFFFFFF)).to(tl.int64)
        k = tl.load(top_k + row)
        target = tl.maximum(TARGET, tl.where(k < VOCAB, k, 0))
        # Fewer than `target` groups reach `high`, more than CAPACITY reach `low`.
        high = tl.max(keys).to(tl.int64) + 1
        count = tl.sum((keys >= low.to(tl.int32)).to(tl.int32))
        bound = low
        while (high - low > 1) & ((count > CAPACITY) | (count < target)):
            bound = low + (high - low) // 2
            count = tl.sum((keys >= bound.to(tl.int32)).to(tl.int32))
            low = tl.where(count > CAPACITY, bound, low)
            high = tl.where(count < target, bound, high)
        fits = (count <= CAPACITY) & (count >= target)
        here = lists + row * (2 + CAPACITY)
        tl.store(here, tl.where(fits, count, 0))
        tl.store(here + 1, bound.to(tl.int32))
        # Read again in parts: places, groups and keys of a long row together would not fit the registers.
        listed = 0
        for start in range(0, GROUPS, PART):
            part, _ = _keys_of_groups(bests, start, GROUPS, PART, SHIFT)
            is_listed = part >= bound.to(tl.int32)
            ones = is_listed.to(tl.int32)
            place = listed + tl.cumsum(ones, axis=0) - 1
            group = start + tl.arange(0, PART)
            tl.store(here + 2 + place, group, is_listed & (place < CAPACITY))
            listed += tl.sum(ones)


@triton.jit
def _keys_of_groups(
    bests, start, GROUPS: tl.constexpr, PART: tl.constexpr, SHIFT: tl.constexpr
):  # fmt: skip
    """Keys of the best logits of groups `start` to `start + PART`, and which of them there are; those that
    are not have one below all keys."""
    group = start + tl.arange(0, PART)
    inside = group < GROUPS
    keys = order_key(tl.load(bests + group, inside, other=float("-inf")), SHIFT)
    return tl.where(inside, keys, -0x7FFFFFFF - 1), inside


@triton.jit
def is_filtered_row(heat, top_k, top_p, min_p, VOCAB: tl.constexpr):
    """Whether a row of this temperature has a filter, at the pointers given, that matters."""
    k = tl.load(top_k)
    has_filter = ((k > 0) & (k < VOCAB)) | (tl.load(top_p) < 1.0) | (tl.load(min_p) > 0.0)
    return has_filter & (heat > 0.0)


def shipped_configurations() -> Iterator[ShippedConfiguration]:
    pointers = dict.fromkeys(("group_best", "temperature", "top_p", "min_p"), "*fp32")
    for name, vocab, dtype, capabilities in (
        ("bf16", 151936, torch.bfloat16, (80, 90)),
        ("longest-fp32", 2**19, torch.float32, (90,)),
    ):
        yield ShippedConfiguration(
            name=name,
            kernel=_list_groups,
            arguments={**pointers, "top_k": "*i32", "lists": "*i32"},
            constants=_constants(vocab, SHIFTS.get(dtype, 0)),
            num_warps=_WARPS,
            num_stages=1,
            capabilities=capabilities,
            max_narrow_loads=0,
        )
