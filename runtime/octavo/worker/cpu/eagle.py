"""EAGLE drafter: guesses by a head on the model's own hidden states (`octavo.models.eagle3`).

The head's row at a position needs the model's hidden states there and the token behind it. So a prompt's last
position, and each of an answer's, waits until its token is known; what waits is kept as the model left it,
and the head reads it when guesses are asked for, all at once. Of a sequence that is not asked about for long
(where guesses do not pay) so many at once are read that a step of the head now and then is all that it costs;
so its cache has no holes when guesses come again, or another request finds the answer in the prefix cache.

While guesses rest it sees nothing, keeps nothing and costs nothing. What it missed then it does without: a
sequence begins for it where it begins to see it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from octavo.models.eagle3 import Eagle3Head
from octavo.models.hidden_states import HiddenStates
from octavo.sampling.host.sampler import Sampler
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.step_inputs import StepInputs, rows_of
from octavo.worker.cpu.step_memory import StepMemory
from octavo.worker.draft_sampling import draft_sampling, known_tokens, with_drafts
from octavo.worker.draft_steps import in_steps
from octavo.worker.seen_blocks import SeenBlocks
from octavo.worker.waiting_states import Waiting, WaitingStates

_MOST_WAITING = 256
"""As many rows of one layer cost about as much as a decode step of a model of many, and are a promille of its
steps then."""


@dataclass(frozen=True, slots=True)
class _HeadRows:
    """Of one sequence: tokens as the head reads them, each at the position before its own.

    Args:
        hidden: `[tokens, hidden]`, of the same positions.
    """

    entry: ScheduledSequence
    hidden: torch.Tensor


class EagleDrafter:
    """See `Drafter`.

    Args:
        states: Those of the model that the head reads.
        memory: Of the head, with as many blocks as the model's.
        max_tokens: Of one of the head's steps, at least what a step of the model may hold and one more for
            each sequence.
        keeps_ends: Others may find the blocks of a sequence that has ended.
        block_size: Tokens of a block of its KV cache, as of the model's.
    """

    def __init__(
        self,
        head: Eagle3Head,
        states: HiddenStates,
        memory: StepMemory,
        max_tokens: int,
        *,
        keeps_ends: bool,
        block_size: int,
    ) -> None:
        self._head = head
        self._states = states
        self._memory = memory
        self._max_tokens = max_tokens
        self._most_waiting = min(_MOST_WAITING, max_tokens)
        self._sampler = Sampler(0)
        self._seen = SeenBlocks(block_size)
        self._waiting = WaitingStates[torch.Tensor](keeps_ends=keeps_ends, seen=self._seen)

    def rest(self) -> None:
        if self._states.is_kept:
            self._states.is_kept = False
            self._waiting.clear()

    def begin(self, released: Iterable[int], copies: Sequence[tuple[int, int]]) -> None:
        self._states.is_kept = True
        self._read(self._waiting.release(released))
        self._memory.copy_blocks(copies)
        self._seen.copy(copies)

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        asked = [entry for entry in entries if entry.num_drafts]
        drafts: dict[int, list[int]] = {entry.sequence_id: [] for entry in asked}
        carried: dict[int, torch.Tensor] = {}
        for place in range(max((entry.num_drafts for entry in asked), default=0)):
            going = [entry for entry in asked if place < entry.num_drafts]
            rows = [
                self._known(entry)
                if place == 0
                else self._guessed(entry, drafts[entry.sequence_id], carried[entry.sequence_id])
                for entry in going
            ]
            for entry, (token, row) in zip(going, self._draw(rows), strict=True):
                drafts[entry.sequence_id].append(token)
                carried[entry.sequence_id] = row
        return with_drafts(entries, drafts)

    def follow(self, entries: Sequence[ScheduledSequence], inputs: StepInputs) -> None:
        states = self._states.take(len(inputs.token_ids))
        chunks: list[_HeadRows] = []
        wanted: list[int] = []  # rows that wait from now on
        waits: list[tuple[Waiting[torch.Tensor], int]] = []
        for entry, ends in zip(entries, inputs.ends, strict=True):
            rows, waiting = rows_of(entry, ends), self._waiting.before(entry)
            count = len(rows)
            if not entry.num_drafts and (count > 1 or entry.sampling is None):
                own = states[rows[0] : rows[-1]]
                known = torch.cat([*(row[None] for row in waiting.rows), own])
                if len(known):
                    chunks.append(self._chunk(entry, waiting.first, known))
                waiting.rows.clear()
                rows = rows[-1:]
            wanted += rows
            waits.append((waiting, len(rows)))
            waiting.end, waiting.entry = entry.start + count, entry
        if chunks:
            self._run(chunks)
        # One copy for all: a step's states are overwritten by the next one's.
        kept = iter(states.index_select(0, torch.tensor(wanted)).unbind())
        for waiting, count in waits:
            waiting.rows += itertools.islice(kept, count)
        self._read_early([waiting for waiting, _ in waits])

    def _read_early(self, waits: Iterable[Waiting[torch.Tensor]]) -> None:
        """What waits of sequences that nobody asked about for long, as far as its tokens are known."""
        early = [one.read() for one in waits if len(one.rows) >= self._most_waiting]
        self._read([read for read in early if read is not None])

    def _read(self, reads: Iterable[tuple[ScheduledSequence, list[torch.Tensor]]]) -> None:
        """Without a guess."""
        rows = [_HeadRows(row, self._head.fuse(torch.stack(hidden))) for row, hidden in reads]
        for part in in_steps(rows, lambda row: len(row.hidden), self._max_tokens):
            self._run(part)

    def _chunk(self, entry: ScheduledSequence, first: int, known: torch.Tensor) -> _HeadRows:
        """Of a prompt: all positions from `first` on but the last, whose token nobody knows yet."""
        tokens = entry.token_ids[first + 1 - entry.start :]
        row = self._waiting[entry].row(entry, tokens, first)
        return _HeadRows(row, self._head.fuse(known))

    def _known(self, entry: ScheduledSequence) -> _HeadRows:
        """All that waits: the entry's own token is known, and its position is not the head's yet."""
        state, waiting = entry.sampling, self._waiting.before(entry)
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        first = waiting.first
        tokens = known_tokens(state, first + 1, entry.start + 1)
        hidden = self._head.fuse(torch.stack(tuple(waiting.rows)))
        waiting.rows.clear()
        return _HeadRows(waiting.row(entry, tokens, first, draft_sampling(state, 0)), hidden)

    def _guessed(
        self, entry: ScheduledSequence, drafts: Sequence[int], carried: torch.Tensor
    ) -> _HeadRows:
        """The last guess, whose position the model has not seen."""
        state, place = entry.sampling, len(drafts)
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        start, sampling = entry.start + place - 1, draft_sampling(state, place)
        row = self._waiting[entry].row(entry, [drafts[-1]], start, sampling)
        return _HeadRows(row, carried[None])

    def _draw(self, rows: Sequence[_HeadRows]) -> Iterator[tuple[int, torch.Tensor]]:
        """A token for each, and what the row behind it reads, in as many steps as they take."""
        for part in in_steps(rows, lambda row: len(row.hidden), self._max_tokens):
            inputs, stream = self._run(part)
            if inputs.sampled_rows is not None:
                stream = stream.index_select(0, inputs.sampled_rows)
            drawn = self._sampler.sample(
                self._head.logits(stream), inputs.sequence_ids, inputs.sampling
            )
            for token, row in zip(drawn, self._head.carried(stream), strict=True):
                yield token.token_id, row

    def _run(self, rows: Sequence[_HeadRows]) -> tuple[StepInputs, torch.Tensor]:
        entries = [one.entry for one in rows]
        inputs, step = self._memory.prepare(entries)
        hidden = torch.cat([one.hidden for one in rows])
        places = [
            row
            for entry, ends in zip(entries, inputs.ends, strict=True)
            for row in rows_of(entry, ends)
        ]
        if places != list(range(len(places))):  # a step has an order of its own
            hidden = torch.empty_like(hidden).index_copy_(0, torch.tensor(places), hidden)
        cache = self._memory.caches[0]
        return inputs, self._head.forward(inputs.token_ids, hidden, cache, step)
