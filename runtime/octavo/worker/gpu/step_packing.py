"""Step packing. Turns a scheduled batch into one int32 array: everything that the device must be told of a
step.

Pure: arrays in, arrays out. With 256 decodes under way a step takes a few kilobytes; a block table is sent
once and then entry by entry, a token not at all if the device sampled it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.kernels.packed_step import Packer
from octavo.kernels.step_state import StepLayout
from octavo.sampling.device.samples import Samples
from octavo.sampling.device.verify import PackedDrafts
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from octavo.worker.gpu.adapter_packing import NO_TILES, PackedTiles, SeatedStep, pack_tiles
from octavo.worker.gpu.draft_rows import drafts_of, with_rows_of_drafts
from octavo.worker.gpu.prompt_scores import PackedScores, pack_scores
from octavo.worker.gpu.state_rows import StateRows
from octavo.worker.gpu.step_outline import StepOutline


@dataclass(frozen=True, slots=True)
class SampledRows:
    """The entries with `sampling`, in the batch's order, those with drafts row by row.

    Args:
        hidden_rows: Where `[samples]` int64 lie: row of each sample among the step's tokens; None when
            sample i is row i.
        state_rows: Where `[samples]` int64 lie: row of each in `SequenceState`.
        samples: How they are sampled.
    """

    hidden_rows: int | None
    state_rows: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class PackedStep:
    """A step as the device gets it.

    Args:
        sampled: None when the step samples nothing.
        copies: Where `[2, num_copies]` int64 lie: source and target blocks.
        max_query_len: Rows of the longest chunk, 1 in a step of decodes.
        scores: None when no prompt's log-probabilities are wanted.
        tiles: Rows that have an adapter.
    """

    packer: Packer
    layout: StepLayout
    num_tokens: int
    max_query_len: int
    num_copies: int
    copies: int
    sampled: SampledRows | None
    scores: PackedScores | None = None
    tiles: PackedTiles = NO_TILES

    def outline(self, graph_size: int) -> StepOutline:
        """For a step that runs in the recorded one of `graph_size`; 0: in none."""
        sampled, scores = self.sampled, self.scores
        places = None if sampled is None else sampled.hidden_rows
        return StepOutline(
            layout=self.layout,
            num_tokens=self.num_tokens,
            max_query_len=self.max_query_len,
            graph_size=graph_size,
            num_copies=self.num_copies,
            copies=self.copies,
            num_samples=0 if sampled is None else len(sampled.samples.sequence_ids),
            hidden_rows=-1 if places is None else places,
            state_rows=0 if sampled is None else sampled.state_rows,
            num_scored=0 if scores is None else len(scores.token_ids),
            scored_rows=0 if scores is None else scores.rows,
            num_tiles=self.tiles.num_tiles,
            num_places=self.tiles.num_places,
            tiles=self.tiles.section,
            num_adapters=self.tiles.num_adapters,
            seats=self.tiles.seats,
        )


def pack_step(
    batch: StepBatch,
    rows: StateRows,
    *,
    vocab_size: int,
    block_size: int,
    max_blocks: int,
    pad_to: int = 0,
    adapters: SeatedStep | None = None,
) -> PackedStep:
    """Packs one step; rows get what it tells the device marked as known.

    Args:
        pad_to: A step of decodes alone is padded to this many sequences.
        adapters: Of its sequences; None: none has one.

    Raises:
        ValueError: A token is outside the vocabulary, a table is too long, or a pending token is
            referred to that no step samples, or that the row's scores must wait for. The caller releases
            the batch's rows then.
    """
    entries = with_rows_of_drafts(batch.entries, block_size)
    given = np.array([len(entry.token_ids) for entry in entries], dtype=np.int64)
    chunks = np.flatnonzero(given != 1)
    place_of = np.arange(len(entries))  # of each entry among the sequences
    if chunks.size:
        order = np.concatenate([np.flatnonzero(given == 1), chunks])
        place_of[order] = np.arange(len(entries))
        ordered = [entries[i] for i in order]
        counts = given[order]
    else:
        ordered, counts = list(entries), given
    state_rows = np.array(rows.acquire([e.sequence_id for e in ordered]), dtype=np.int64)
    first_rows = np.zeros(len(entries) + 1, dtype=np.int64)
    np.cumsum(counts, out=first_rows[1:])
    starts = np.array([entry.start for entry in ordered], dtype=np.int64)
    num_decodes = len(entries) - int(chunks.size)
    tokens = _tokens(ordered, num_decodes)
    _check_tokens(tokens, vocab_size)
    _check_pending(tokens, first_rows, ordered, state_rows, rows)
    updates = _table_updates(ordered, state_rows, rows, batch.block_copies, max_blocks)
    packer = Packer()
    layout = StepLayout(
        num_seqs=len(entries),
        num_decodes=num_decodes,
        padded_seqs=len(entries) if chunks.size else max(pad_to, len(entries)),
        num_updates=updates.shape[1],
        rows=packer.put(state_rows.astype(np.int32)),
        starts=packer.put(starts.astype(np.int32)),
        query_start=packer.put(first_rows.astype(np.int32)),
        token_ids=packer.put(tokens),
        updates=packer.put(updates),
    )
    copies = np.array(batch.block_copies, dtype=np.int64).reshape(-1, 2).T
    sampled = [i for i, entry in enumerate(entries) if entry.sampling is not None]
    samples = None
    if sampled:
        drafts = PackedDrafts.pack(
            [drafts_of(entry) for entry in batch.entries if entry.sampling is not None], packer
        )
        samples = _pack_samples(
            entries,
            sampled,
            place_of,
            first_rows,
            starts + counts,
            state_rows,
            rows,
            packer,
            drafts,
        )
    return PackedStep(
        packer=packer,
        layout=layout,
        num_tokens=int(first_rows[-1]),
        max_query_len=int(counts.max(initial=1)),
        num_copies=copies.shape[1],
        copies=packer.put(copies),
        sampled=samples,
        scores=pack_scores(entries, first_rows[place_of], packer),
        tiles=NO_TILES
        if adapters is None
        else pack_tiles(ordered, counts, adapters, packer, pad_to=pad_to),
    )


def _tokens(ordered: Sequence[ScheduledSequence], num_decodes: int) -> np.ndarray:
    decodes = np.array([e.token_ids[0] for e in ordered[:num_decodes]], dtype=np.int32)
    chunks = [np.array(entry.token_ids, dtype=np.int32) for entry in ordered[num_decodes:]]
    return np.concatenate([decodes, *chunks]) if chunks else decodes


def _check_tokens(tokens: np.ndarray, vocab_size: int) -> None:
    if not tokens.size:
        return
    if tokens.max() >= vocab_size or tokens.min() < PENDING_TOKEN:
        raise ValueError(
            f"The step's token ids lie in [{tokens.min()}, {tokens.max()}]; the model knows "
            f"[0, {vocab_size - 1}]."
        )


def _check_pending(
    tokens: np.ndarray,
    first_rows: np.ndarray,
    ordered: Sequence[ScheduledSequence],
    state_rows: np.ndarray,
    rows: StateRows,
) -> None:
    pending = np.flatnonzero(tokens == PENDING_TOKEN)
    if not pending.size:
        return
    owners = np.searchsorted(first_rows, pending, side="right") - 1
    lost = np.flatnonzero(~rows.has_token[state_rows[owners]])
    if lost.size:
        raise ValueError(
            f"Sequence {ordered[owners[lost[0]]].sequence_id} refers to a pending token, but no step "
            "sampled one for it since it got its row."
        )
    early = np.flatnonzero(rows.sampling.waits_for_token[state_rows[owners]])
    if early.size:
        raise ValueError(
            f"Sequence {ordered[owners[early[0]]].sequence_id} refers to a pending token, but what shapes "
            "its scores must know that token first."
        )


def _table_updates(
    ordered: Sequence[ScheduledSequence],
    state_rows: np.ndarray,
    rows: StateRows,
    copies: Sequence[tuple[int, int]],
    max_blocks: int,
) -> np.ndarray:
    """`[3, updates]` int32: row, index and block of every table entry that the device does not know."""
    lengths = np.array([len(entry.block_ids) for entry in ordered], dtype=np.int64)
    if lengths.max(initial=0) > max_blocks:
        longest = int(lengths.argmax())
        raise ValueError(
            f"Sequence {ordered[longest].sequence_id} has {lengths[longest]} blocks; at most {max_blocks} "
            "fit max_model_len."
        )
    known = rows.table_lengths[state_rows]
    # Lists, because a step brings a few entries of many tables: an array of each would cost more.
    owners: list[int] = []
    places: list[int] = []
    blocks: list[int] = []
    for index in np.flatnonzero(lengths > known).tolist():
        first, last = int(known[index]), int(lengths[index])
        owners += [int(state_rows[index])] * (last - first)
        places += range(first, last)
        blocks += ordered[index].block_ids[first:last]
    if copies:
        targets = {target for _, target in copies}
        for index, entry in enumerate(ordered):
            for place, block in enumerate(entry.block_ids[: int(known[index])]):
                if block in targets:
                    owners.append(int(state_rows[index]))
                    places.append(place)
                    blocks.append(block)
    rows.table_lengths[state_rows] = lengths
    return np.array([owners, places, blocks], dtype=np.int32)


def _pack_samples(
    entries: Sequence[ScheduledSequence],
    sampled: list[int],
    place_of: np.ndarray,
    first_rows: np.ndarray,
    ends: np.ndarray,
    state_rows: np.ndarray,
    rows: StateRows,
    packer: Packer,
    drafts: PackedDrafts | None,
) -> SampledRows:
    chosen = [entries[i] for i in sampled]
    states = [entry.sampling for entry in chosen if entry.sampling is not None]
    places = place_of[sampled]
    hidden_rows = first_rows[places + 1] - 1
    own_rows = state_rows[places]
    # Of several rows of a sequence the host alone knows which one's token is its last.
    rows.has_token[own_rows] = [not entry.num_drafts for entry in chosen]
    is_identity = len(sampled) == first_rows[-1] and bool((np.diff(hidden_rows) == 1).all())
    return SampledRows(
        hidden_rows=None if is_identity else packer.put(hidden_rows),
        state_rows=packer.put(own_rows),
        samples=rows.sampling.pack(
            own_rows,
            [entry.sequence_id for entry in chosen],
            states,
            ends[places],
            packer,
            drafts,
        ),
    )
