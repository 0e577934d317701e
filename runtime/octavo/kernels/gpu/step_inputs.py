"""Step inputs. Lays a step out on the device, from what the host sent and what the device keeps of the
sequences."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, launch_options
from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout, chunks_at

_TILE = 256
_WARPS, _STAGES = 4, 1


def step_inputs(
    packed: torch.Tensor,
    layout: StepLayout,
    state: SequenceState,
    buffers: StepBuffers,
    block_size: int,
) -> None:
    """Brings `state.block_tables` up to date and fills `buffers` for the step.

    Padding sequences, from `layout.num_seqs` to `layout.padded_seqs`, get context 0, slot -1, token and
    position 0, and are not counted by `num_live`. What lies behind in the buffers, and in a block table
    behind its sequence's context, is left as it was.

    Args:
        packed: int32, laid out as `layout` says.
    """
    options = launch_options(_WARPS, _STAGES)
    max_blocks = state.block_tables.stride(0)
    if layout.num_updates:
        grid = (triton.cdiv(layout.num_updates, _TILE),)
        _update_tables_kernel[grid](
            packed,
            state.block_tables,
            layout.updates,
            layout.num_updates,
            max_blocks,
            TILE=_TILE,
            **options,
        )
    if layout.padded_seqs == 0:
        return
    _step_inputs_kernel[(layout.padded_seqs,)](
        packed,
        state.last_tokens,
        state.block_tables,
        buffers.token_ids,
        buffers.positions,
        buffers.slots,
        buffers.block_tables,
        buffers.context_lens,
        buffers.query_start,
        buffers.num_live,
        layout.rows,
        layout.starts,
        layout.query_start,
        layout.token_ids,
        layout.num_seqs,
        layout.num_decodes,
        chunks_at(layout.num_decodes) - layout.num_decodes,
        max_blocks,
        BLOCK_SIZE=block_size,
        TILE=_TILE,
        **options,
    )


@triton.jit(do_not_specialize=["updates", "num_updates", "max_blocks"])
def _update_tables_kernel(packed, tables, updates, num_updates, max_blocks, TILE: tl.constexpr):
    index = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_update = index < num_updates
    source = packed + updates + index
    row = tl.load(source, mask=is_update, other=0)
    place = tl.load(source + num_updates, mask=is_update, other=0)
    block = tl.load(source + 2 * num_updates, mask=is_update, other=0)
    tl.store(tables + row.to(tl.int64) * max_blocks + place, block, mask=is_update)


@triton.jit(
    do_not_specialize=[
        "rows",
        "starts",
        "first_rows",
        "given_tokens",
        "num_seqs",
        "num_decodes",
        "shift",
        "max_blocks",
    ]
)
def _step_inputs_kernel(
    packed,
    last_tokens,
    tables,
    token_ids_out,
    positions_out,
    slots_out,
    tables_out,
    context_lens_out,
    query_start_out,
    num_live_out,
    rows,
    starts,
    first_rows,
    given_tokens,
    num_seqs,
    num_decodes,
    shift,
    max_blocks,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """One program for each sequence, padding included; chunks lie `shift` places behind their index."""
    sequence = tl.program_id(0)
    if sequence == 0:  # of padding alone, too
        tl.store(num_live_out, tl.load(packed + first_rows + num_seqs))
    if (
        sequence >= num_seqs
    ):  # padding is found in steps of decodes alone: one row for each sequence
        tl.store(context_lens_out + sequence, 0)
        tl.store(slots_out + sequence, tl.full((), -1, tl.int64))
        tl.store(token_ids_out + sequence, tl.zeros((), tl.int64))
        tl.store(positions_out + sequence, tl.zeros((), tl.int64))
        return
    row = tl.load(packed + rows + sequence).to(tl.int64)
    start = tl.load(packed + starts + sequence)
    first = tl.load(packed + first_rows + sequence)
    last = tl.load(packed + first_rows + sequence + 1)
    count = last - first
    context = start + count
    table = tables + row * max_blocks
    last_token = tl.load(last_tokens + row)
    place = tl.where(sequence < num_decodes, sequence, sequence + shift)
    tl.store(context_lens_out + place, context)
    tl.store(query_start_out + place, first - num_decodes)
    if sequence == num_seqs - 1:
        tl.store(query_start_out + place + 1, last - num_decodes)
    for begin in range(0, count, TILE):
        index = begin + tl.arange(0, TILE)
        is_token = index < count
        token = tl.load(packed + given_tokens + first + index, mask=is_token, other=0).to(tl.int64)
        position = start + index
        block = tl.load(table + position // BLOCK_SIZE, mask=is_token, other=0).to(tl.int64)
        slot = block * BLOCK_SIZE + position % BLOCK_SIZE
        token = tl.where(token < 0, last_token, token)
        tl.store(token_ids_out + first + index, token, mask=is_token)
        tl.store(positions_out + first + index, position.to(tl.int64), mask=is_token)
        tl.store(slots_out + first + index, slot, mask=is_token)
    used = (context + BLOCK_SIZE - 1) // BLOCK_SIZE
    table_out = tables_out + place.to(tl.int64) * max_blocks
    for begin in range(0, used, TILE):
        index = begin + tl.arange(0, TILE)
        is_block = index < used
        tl.store(table_out + index, tl.load(table + index, mask=is_block, other=0), mask=is_block)


def shipped_configurations() -> list[ShippedConfiguration]:
    packed_arguments = ["rows", "starts", "first_rows", "given_tokens"]
    counts = ["num_seqs", "num_decodes", "shift", "max_blocks"]
    arguments = {"packed": "*i32", "last_tokens": "*i64", "tables": "*i32", "tables_out": "*i32"}
    arguments |= {f"{name}_out": "*i64" for name in ("token_ids", "positions", "slots")}
    arguments |= {f"{name}_out": "*i32" for name in ("context_lens", "query_start", "num_live")}
    arguments |= dict.fromkeys((*packed_arguments, *counts), "i32")
    steps = [
        ShippedConfiguration(
            name=f"block{block_size}",
            kernel=_step_inputs_kernel,
            arguments=arguments,
            constants={"BLOCK_SIZE": block_size, "TILE": _TILE},
            num_warps=_WARPS,
            num_stages=_STAGES,
        )
        for block_size in (8, 16, 32, 64, 128)
    ]
    updates = ShippedConfiguration(
        name="update-tables",
        kernel=_update_tables_kernel,
        arguments={
            "packed": "*i32",
            "tables": "*i32",
            "updates": "i32",
            "num_updates": "i32",
            "max_blocks": "i32",
        },
        constants={"TILE": _TILE},
        num_warps=_WARPS,
        num_stages=_STAGES,
    )
    return [*steps, updates]
