"""Step inputs. Lays a scheduled batch out as the flat tensors that the model runs on.

Rows are ordered decodes first (longest context first), then prefill chunks, because decodes of similar
context run as one product. A token with drafts behind it is so many decodes of one sequence: all rows are
stored before any attends, so that each sees those before it, by the same kernel as without drafts. Buffers
are allocated once; a step only fills and slices them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from octavo.kernels.attention_plan import AttentionPlan, SequenceSpan, plan_attention
from octavo.kernels.decode_rows import DecodeRows, DecodeTables, count_decodes, make_decode_rows
from octavo.kernels.prefill_chunks import PrefillChunks, make_prefill_chunks
from octavo.layers.step import AdapterRows
from octavo.sampling.state import SamplingState
from octavo.worker.batch import BASE_MODEL, ScheduledSequence

MAX_REPEATED_ROWS = 64
"""Of a step whose memory is the same each time: beyond it Python is no part of a step that counts."""


@dataclass(frozen=True, slots=True)
class KernelRows:
    """The rows of a step as kernels take them: decodes, and the prompt chunks after them, or these as a plan.
    None: no such rows."""

    decodes: DecodeRows | None
    chunks: PrefillChunks | AttentionPlan | None


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """Of prompts, in the batch's order, one of each for a row.

    Args:
        rows: `[scored]` int64, the row that scores each token.
        sequence_ids, token_ids: The token's own.
        num_best: How many of the best tokens are told beside it.
    """

    rows: torch.Tensor
    sequence_ids: list[int]
    token_ids: list[int]
    num_best: list[int]

    @classmethod
    def of(
        cls, batch: Sequence[ScheduledSequence], last_rows: Sequence[int], device: torch.device
    ) -> ScoredTokens | None:
        """None where no entry wants them. `last_rows[i]` is the row of entry i's last token."""
        rows, sequence_ids, token_ids, num_best = list[int](), list[int](), list[int](), list[int]()
        for entry, last in zip(batch, last_rows, strict=True):
            if entry.scored is None:
                continue
            count = len(entry.scored.targets)
            first = last + 1 - len(entry.token_ids)
            rows += range(first, first + count)
            sequence_ids += [entry.sequence_id] * count
            token_ids += entry.scored.targets
            num_best += [entry.scored.num_best] * count
        if not rows:
            return None
        at = torch.tensor(rows, dtype=torch.int64).to(device)
        return cls(at, sequence_ids, token_ids, num_best)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One step on the device.

    Args:
        token_ids: `[tokens]` int64.
        positions: `[tokens]` int64, each token's place in its sequence.
        slots: `[tokens]` int64, where keys and values go: `block * block_size + offset`.
        attention: What the rows attend to.
        sampled_rows: `[samples]` int64: rows whose next token is wanted, in the batch's order; None when
            that is every row as it stands.
        sequence_ids, sampling, drafts: Of the entries that these rows are of, one row and one more for each
            draft.
        ends: Of each entry of the batch, the row of its last token; with drafts, those of all.
        scored: Rows whose log-probabilities are wanted.
        adapters: Rows that have one.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    attention: AttentionPlan | KernelRows
    sampled_rows: torch.Tensor | None
    sequence_ids: list[int]
    sampling: list[SamplingState]
    drafts: list[Sequence[int]]
    ends: list[list[int]]
    scored: ScoredTokens | None = None
    adapters: Sequence[AdapterRows] = ()

    @property
    def read_rows(self) -> torch.Tensor | None:
        """`[count]` int64: the only rows of whose last hidden states anything is made; None: any may be. An
        adapter's rows are counted in the whole step."""
        rows = self.sampled_rows
        if rows is None or self.scored is not None or self.adapters or len(rows) == len(self.slots):
            return None
        return rows

    @property
    def is_repeated(self) -> bool:
        """Whether it differs from others of as many rows by numbers alone, not by addresses or code."""
        rows = self.attention
        return (
            isinstance(rows, KernelRows)
            and rows.chunks is None
            and self.read_rows is None
            and not self.adapters
            and len(self.slots) <= MAX_REPEATED_ROWS
        )


class StepInputBuilder:
    """Fills the buffers of one executor; what it returns is valid until the next `build`.

    Args:
        max_tokens: Of one step.
        block_size: Tokens of a KV block.
        dtype: Of the queries.
        max_blocks: Of a sequence.
        windows: The sliding windows that layers have.
        has_kernels: Rows are for kernels, and a plan is made for none.
        plans_chunks: It is made for prompt chunks nevertheless.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        max_blocks: int,
        windows: Sequence[int] = (),
        has_kernels: bool = False,
        plans_chunks: bool = False,
    ) -> None:
        self._has_kernels = has_kernels
        self._plans_chunks = plans_chunks
        self._windows = windows
        self._block_size = block_size
        self._dtype = dtype
        self._device = device
        self._tables = DecodeTables(MAX_REPEATED_ROWS, max_blocks)
        # Rows: token ids, positions, slots. One buffer, so that a GPU gets it in one copy.
        host = torch.zeros((3, max_tokens), dtype=torch.int64, pin_memory=device.type == "cuda")
        self._host = host
        self._array = host.numpy()

    def build(self, batch: Sequence[ScheduledSequence]) -> StepInputs:
        pieces = [piece for i, entry in enumerate(batch) for piece in _pieces(i, entry)]
        pieces.sort(key=_row_order)
        spans: list[SequenceSpan] = []
        rows = [[0] * (1 + entry.num_drafts) for entry in batch]  # the last of each piece
        first = 0
        for index, sequence, start, tokens in pieces:
            count = len(tokens)
            self._fill(sequence, start, tokens, first)
            spans.append(SequenceSpan(count, start + count, sequence.block_ids))
            first += count
            rows[index][start - sequence.start] = first - 1
        token_ids, positions, slots = self._on_device(first)
        sampled = [i for i, sequence in enumerate(batch) if sequence.sampling is not None]
        wanted = [row for i in sampled for row in rows[i]]
        sampled_rows: torch.Tensor | None = None
        if len(wanted) != first or wanted != list(range(first)):
            sampled_rows = torch.tensor(wanted, dtype=torch.int64).to(self._device)
        return StepInputs(
            token_ids,
            positions,
            slots,
            self._attention(spans, slots),
            sampled_rows,
            [batch[i].sequence_id for i in sampled],
            [s.sampling for s in batch if s.sampling is not None],
            [_drafts(batch[i]) for i in sampled],
            rows,
            ScoredTokens.of(batch, [places[-1] for places in rows], self._device),
            adapter_rows(batch, rows, first, self._device),
        )

    def _attention(
        self, spans: Sequence[SequenceSpan], slots: torch.Tensor
    ) -> AttentionPlan | KernelRows:
        size = self._block_size
        if not self._has_kernels:
            return self._plan(spans, slots)
        count = count_decodes(spans)
        decodes = make_decode_rows(spans[:count], size, self._tables) if count else None
        if count == len(spans):
            return KernelRows(decodes, None)
        if self._plans_chunks:
            return KernelRows(decodes, self._plan(spans[count:], slots[count:]))
        return KernelRows(decodes, make_prefill_chunks(spans[count:], size))

    def _plan(self, spans: Sequence[SequenceSpan], slots: torch.Tensor) -> AttentionPlan:
        return plan_attention(
            spans,
            slots,
            block_size=self._block_size,
            dtype=self._dtype,
            device=self._device,
            windows=self._windows,
        )

    def _fill(
        self, sequence: ScheduledSequence, start: int, token_ids: Sequence[int], first: int
    ) -> None:
        array, size, count = self._array, self._block_size, len(token_ids)
        if count == 1:
            array[0, first] = token_ids[0]
            array[1, first] = start
            array[2, first] = sequence.block_ids[start // size] * size + start % size
            return
        last = first + count
        positions = np.arange(start, start + count)
        first_block = start // size
        blocks = np.asarray(
            sequence.block_ids[first_block : (start + count - 1) // size + 1], dtype=np.int64
        )
        array[0, first:last] = token_ids
        array[1, first:last] = positions
        array[2, first:last] = blocks[positions // size - first_block] * size + positions % size

    def _on_device(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        used = self._host[:, :tokens]
        if self._device.type != "cpu":
            used = used.to(self._device, non_blocking=True)
        return used[0], used[1], used[2]


_Piece = tuple[int, ScheduledSequence, int, Sequence[int]]
"""Rows that lie together: the place of their entry in the batch, the entry, their position and tokens."""


def _pieces(index: int, entry: ScheduledSequence) -> list[_Piece]:
    """The whole entry, or with drafts each of its tokens by itself."""
    start, tokens = entry.start, entry.token_ids
    if not entry.num_drafts:
        return [(index, entry, start, tokens)]
    return [(index, entry, start + i, (token,)) for i, token in enumerate(tokens)]


def _row_order(piece: _Piece) -> tuple[int, int]:
    _, _, start, token_ids = piece
    is_decode = len(token_ids) == 1 and start > 0
    return (0, -start) if is_decode else (1, 0)


def _drafts(entry: ScheduledSequence) -> Sequence[int]:
    return entry.token_ids[1:] if entry.num_drafts else ()


def rows_of(entry: ScheduledSequence, ends: Sequence[int]) -> Sequence[int]:
    """Of an entry's tokens in a step; see `StepInputs.ends`."""
    if entry.num_drafts:
        return ends
    return range(ends[0] + 1 - len(entry.token_ids), ends[0] + 1)


def adapter_rows(
    batch: Sequence[ScheduledSequence],
    ends: Sequence[Sequence[int]],
    num_rows: int,
    device: torch.device,
) -> list[AdapterRows]:
    """The rows of each adapter in a step, those of many sequences together.

    Args:
        ends: Of each entry, the row of its last token; with drafts, those of all.
        num_rows: Of the step.
    """
    ids = {entry.adapter_id for entry in batch} - {BASE_MODEL}
    if not ids:
        return []
    owners = np.zeros(num_rows, dtype=np.int64)
    for entry, rows in zip(batch, ends, strict=True):
        if entry.num_drafts:
            owners[rows] = entry.adapter_id
        else:
            owners[rows[0] + 1 - len(entry.token_ids) : rows[0] + 1] = entry.adapter_id
    found = []
    for adapter_id in sorted(ids):
        own = np.flatnonzero(owners == adapter_id)
        first, last = int(own[0]), int(own[-1])
        if last - first + 1 == len(own):
            found.append(AdapterRows(adapter_id, slice(first, last + 1)))
        else:
            found.append(AdapterRows(adapter_id, torch.from_numpy(own).to(device)))
    return found
