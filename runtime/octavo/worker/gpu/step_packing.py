"""Turns a scheduled batch into one int32 array: everything that the device must be told of a step.

Pure: arrays in, arrays out. With 256 decodes under way a step takes a few kilobytes; a block table is sent
once and then entry by entry, a token not at all if the device sampled it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from octavo.kernels.step_state import StepLayout
from octavo.sampling.state import SamplingState
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from octavo.worker.gpu.state_rows import NO_COUNTS, StateRows

_ALIGNMENT = 4
"""Elements, so 16 bytes: what a kernel may assume of a tensor's address."""


class Packer:
    """Collects sections of one int32 array; 8-byte numbers take two elements."""

    def __init__(self) -> None:
        self._sections: list[tuple[int, np.ndarray]] = []
        self.size = 0

    def put(self, values: np.ndarray) -> int:
        """Adds int32, float32, int64 values as their bytes; returns where they will start."""
        first = self.size
        section = np.ascontiguousarray(values).reshape(-1).view(np.int32)
        self._sections.append((first, section))
        self.size = -(-(first + section.size) // _ALIGNMENT) * _ALIGNMENT
        return first

    def write(self, target: np.ndarray) -> None:
        """Fills `target`, int32 and at least `size` long."""
        for first, section in self._sections:
            target[first : first + section.size] = section


@dataclass(frozen=True, slots=True)
class DrawSections:
    """Where the parameters of the samples lie, each `[samples]`; see `SamplingTensors`.

    Args:
        has_filters: Whether any sample has a top_k, top_p or min_p.
    """

    temperature: int
    top_k: int
    top_p: int
    min_p: int
    seed: int
    position: int
    has_filters: bool


@dataclass(frozen=True, slots=True)
class PenaltySections:
    """Where the penalties of the samples lie, each `[samples]`.

    Args:
        count_rows: int32, rows of the token counts; `NO_COUNTS` for samples without penalties.
        started: Index of the sample and row of the token counts, of sequences whose counts begin here.
    """

    presence: int
    frequency: int
    repetition: int
    count_rows: int
    started: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Samples:
    """The entries with `sampling`, in the batch's order.

    Args:
        hidden_rows: Where `[samples]` int64 lie: row of each sample among the step's tokens; None when
            sample i is row i.
        state_rows: Where `[samples]` int64 lie: row of each in `SequenceState`.
        draw: None when all samples are greedy.
        penalties: None when no sample has any.
        with_logprobs: Indices of the samples whose log-probabilities are wanted.
        logprob_rows: Where they lie as int64.
        pooled: Indices of the samples whose embedding is wanted.
        pooled_rows: Where they lie as int64.
    """

    sequence_ids: list[int]
    states: list[SamplingState]
    hidden_rows: int | None
    state_rows: int
    draw: DrawSections | None
    penalties: PenaltySections | None
    with_logprobs: list[int]
    logprob_rows: int
    pooled: list[int]
    pooled_rows: int


@dataclass(frozen=True, slots=True)
class PackedStep:
    """A step as the device gets it.

    Args:
        copies: Where `[2, num_copies]` int64 lie: source and target blocks.
        max_query_len: Rows of the longest chunk, 1 in a step of decodes.
    """

    packer: Packer
    layout: StepLayout
    num_tokens: int
    max_query_len: int
    num_copies: int
    copies: int
    samples: Samples | None


def pack_step(
    batch: StepBatch, rows: StateRows, *, vocab_size: int, max_blocks: int, pad_to: int = 0
) -> PackedStep:
    """Packs one step; rows get what it tells the device marked as known.

    Args:
        pad_to: A step of decodes alone is padded to this many sequences.

    Raises:
        ValueError: A token is outside the vocabulary, a table is too long, or a pending token is
            referred to that no step samples. The caller releases the batch's rows then.
    """
    entries = batch.entries
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
        samples = _pack_samples(
            entries, sampled, place_of, first_rows, starts + counts, state_rows, rows, packer
        )
    return PackedStep(
        packer=packer,
        layout=layout,
        num_tokens=int(first_rows[-1]),
        max_query_len=int(counts.max(initial=1)),
        num_copies=copies.shape[1],
        copies=packer.put(copies),
        samples=samples,
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
) -> Samples:
    chosen = [entries[i] for i in sampled]
    states = [entry.sampling for entry in chosen if entry.sampling is not None]
    places = place_of[sampled]
    hidden_rows = first_rows[places + 1] - 1
    own_rows = state_rows[places]
    started = rows.learn(own_rows, states)
    rows.has_token[own_rows] = True
    is_identity = len(sampled) == first_rows[-1] and bool((np.diff(hidden_rows) == 1).all())
    with_logprobs = np.flatnonzero(rows.wants_logprobs[own_rows])
    pooled = np.flatnonzero(rows.is_pooled[own_rows])
    return Samples(
        sequence_ids=[entry.sequence_id for entry in chosen],
        states=states,
        hidden_rows=None if is_identity else packer.put(hidden_rows),
        state_rows=packer.put(own_rows),
        draw=_pack_draw(ends[places], own_rows, rows, packer),
        penalties=_pack_penalties(started, own_rows, rows, packer),
        with_logprobs=with_logprobs.tolist(),
        logprob_rows=packer.put(with_logprobs),
        pooled=pooled.tolist(),
        pooled_rows=packer.put(pooled),
    )


def _pack_draw(
    ends: np.ndarray, own_rows: np.ndarray, rows: StateRows, packer: Packer
) -> DrawSections | None:
    """`ends`: position behind the last token that each sample's entry runs."""
    temperature = rows.temperature[own_rows]
    if not temperature.any():
        return None
    # The token's index in the output, from what is run and not from what the host has seen: a pending
    # token counts.
    positions = ends - rows.prompt_lengths[own_rows]
    top_k, top_p, min_p = (a[own_rows] for a in (rows.top_k, rows.top_p, rows.min_p))
    return DrawSections(
        temperature=packer.put(temperature),
        top_k=packer.put(top_k),
        top_p=packer.put(top_p),
        min_p=packer.put(min_p),
        seed=packer.put(rows.seeds[own_rows]),
        position=packer.put(positions),
        has_filters=bool(top_k.any() or (top_p < 1.0).any() or min_p.any()),
    )


def _pack_penalties(
    started: list[tuple[int, int]], own_rows: np.ndarray, rows: StateRows, packer: Packer
) -> PenaltySections | None:
    count_rows = rows.count_rows[own_rows]
    if (count_rows == NO_COUNTS).all():
        return None
    return PenaltySections(
        presence=packer.put(rows.presence[own_rows]),
        frequency=packer.put(rows.frequency[own_rows]),
        repetition=packer.put(rows.repetition[own_rows]),
        count_rows=packer.put(count_rows),
        started=started,
    )
