"""Step inputs. Lays a step out on the device, from what the host sent and what the device keeps of the
sequences."""

from __future__ import annotations

import torch

from octavo.kernels.step_state import SequenceState, StepBuffers, StepLayout, chunks_at


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

    def section(first: int, count: int) -> list[int]:
        values: list[int] = packed[first : first + count].tolist()
        return values

    for index in range(layout.num_updates):
        row, place, block = (
            section(layout.updates + part * layout.num_updates + index, 1)[0] for part in range(3)
        )
        state.block_tables[row, place] = block
    if layout.padded_seqs == 0:
        return
    rows, starts = (section(at, layout.num_seqs) for at in (layout.rows, layout.starts))
    first_rows = section(layout.query_start, layout.num_seqs + 1)
    shift = chunks_at(layout.num_decodes) - layout.num_decodes
    for index, (row, start) in enumerate(zip(rows, starts, strict=True)):
        first, last = first_rows[index], first_rows[index + 1]
        context = start + last - first
        positions = torch.arange(start, context, device=packed.device)
        token_ids = packed[layout.token_ids + first : layout.token_ids + last].long()
        table = state.block_tables[row]
        buffers.token_ids[first:last] = torch.where(
            token_ids < 0, state.last_tokens[row], token_ids
        )
        buffers.positions[first:last] = positions
        blocks = table[positions // block_size].long()
        buffers.slots[first:last] = blocks * block_size + positions % block_size
        used = -(-context // block_size)
        place = index if index < layout.num_decodes else index + shift
        buffers.block_tables[place, :used] = table[:used]
        buffers.context_lens[place] = context
        buffers.query_start[place] = first - layout.num_decodes
        if index == layout.num_seqs - 1:
            buffers.query_start[place + 1] = last - layout.num_decodes
    buffers.num_live.fill_(first_rows[-1])
    padding = slice(layout.num_seqs, layout.padded_seqs)
    buffers.context_lens[padding] = 0
    buffers.slots[padding] = -1
    buffers.token_ids[padding] = 0
    buffers.positions[padding] = 0
