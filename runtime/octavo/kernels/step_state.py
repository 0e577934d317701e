"""Step state. What a GPU keeps of the running sequences between steps, and what a step's kernels read.

Both live for the whole process at fixed addresses, because a CUDA graph replays with the addresses that it
was captured with. The host sends differences alone: see `octavo.worker.gpu.step_packing`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class SequenceState:
    """One row for each sequence that runs.

    Args:
        last_tokens: `[rows]` int64: the token that was sampled last.
        block_tables: `[rows, max_blocks]` int32.
    """

    last_tokens: torch.Tensor
    block_tables: torch.Tensor

    @classmethod
    def make(cls, num_rows: int, max_blocks: int, device: torch.device) -> SequenceState:
        return cls(
            torch.zeros(num_rows, dtype=torch.int64, device=device),
            torch.zeros((num_rows, max_blocks), dtype=torch.int32, device=device),
        )


def chunks_at(num_decodes: int) -> int:
    """Place of the first prompt chunk among the sequences of `StepBuffers`.

    Aligned to 16 bytes of int32: kernels get slices that begin there, and one of another alignment would
    be compiled anew in the middle of serving.
    """
    return -(-num_decodes // 4) * 4


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """The inputs of one step; decodes first, prompt chunks from `chunks_at(num_decodes)` on.

    Args:
        token_ids, positions: `[max_tokens]` int64.
        slots: `[max_tokens]` int64, `block * block_size + offset`; -1 in padding rows.
        block_tables: `[places, max_blocks]` int32.
        context_lens: `[places]` int32: keys after this step; 0 in padding rows.
        query_start: `[places + 1]` int32: first row of each chunk, counted from the first chunk's; the
            last chunk's end follows. Without meaning for decodes.
        num_live: `[1]` int32: rows of the step; those from there on are padding.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor
    query_start: torch.Tensor
    num_live: torch.Tensor

    @classmethod
    def make(
        cls, *, max_tokens: int, max_seqs: int, max_blocks: int, device: torch.device
    ) -> StepBuffers:
        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        places = chunks_at(max_seqs) + 4
        return cls(
            token_ids=zeros(max_tokens, dtype=torch.int64),
            positions=zeros(max_tokens, dtype=torch.int64),
            slots=zeros(max_tokens, dtype=torch.int64),
            block_tables=zeros(places, max_blocks, dtype=torch.int32),
            context_lens=zeros(places, dtype=torch.int32),
            query_start=zeros(places + 1, dtype=torch.int32),
            num_live=zeros(1, dtype=torch.int32),
        )


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Where a packed step keeps what, in elements of its int32 buffer.

    Args:
        num_seqs: Sequences of the step, decodes (one token each) first.
        num_decodes: How many of them are decodes.
        padded_seqs: `num_seqs`, or more in a step of decodes alone that runs at a fixed size.
        num_updates: Entries of block tables that changed.
        rows: `[num_seqs]`: row of each sequence in `SequenceState`.
        starts: `[num_seqs]`: position of its first token.
        query_start: `[num_seqs + 1]`: its first row in the step.
        token_ids: `[query_start[num_seqs]]`; -1 stands for the row's last token.
        updates: `[3, num_updates]`: rows, indices and blocks to be written to the tables.
    """

    num_seqs: int
    num_decodes: int
    padded_seqs: int
    num_updates: int
    rows: int
    starts: int
    query_start: int
    token_ids: int
    updates: int
