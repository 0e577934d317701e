"""EAGLE drafter on a GPU: guesses by a head on the model's own hidden states (`octavo.models.eagle3`).

As on a CPU (`octavo.worker.cpu.eagle`) the model's states at a position wait until its token is known, and
until guesses are asked for. Of a sequence that is not asked about for long so many at once are read that a
step of the head now and then is all that it costs. The head has a runner of its own, in which it is a model
of one layer: its guesses are sampled on the device and read there by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from octavo.layers.step import Step
from octavo.models.eagle3 import Eagle3Head
from octavo.models.spec import ModelSpec
from octavo.sampling.state import SamplingState
from octavo.worker.batch import PENDING_TOKEN, ScheduledSequence, StepBatch
from octavo.worker.draft_sampling import draft_params, known_tokens, with_drafts
from octavo.worker.draft_steps import in_steps, row_of
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.draft_rows import rows_in_step
from octavo.worker.gpu.drafter import cut, drawn_tokens
from octavo.worker.gpu.readback import PendingSamples
from octavo.worker.gpu.runner import GpuRunner
from octavo.worker.waiting_states import WaitingStates


class HeadModel:
    """A head as the runner's `CausalLM`: its rows read `hidden` beside tokens.

    Attributes:
        hidden: `[rows, hidden]` of the next step, in the order of its rows.
        carried: `[samples, hidden]`, what the rows of the last step's guesses read in its place.
    """

    def __init__(self, head: Eagle3Head) -> None:
        self.head = head
        self.hidden: torch.Tensor | None = None
        self.carried: torch.Tensor | None = None

    @property
    def spec(self) -> ModelSpec:
        return self.head.spec

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        hidden, self.hidden = self.hidden, None
        assert hidden is not None  # noqa: S101 - `EagleOnGpu` gives it
        return self.head.forward(token_ids, hidden, caches[0], step)

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        return residual

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.carried = self.head.carried(hidden)
        return self.head.logits(hidden)


_Row = tuple[torch.Tensor, int]
"""Hidden states of some rows, and one of them."""
_Read = tuple[ScheduledSequence, Sequence[_Row]]
"""Tokens that the head is to read, each with the model's hidden states at the position before it."""


class EagleOnGpu:
    """See `GpuDrafter`.

    Args:
        model: Of the head, which `runner` runs; it has as many blocks as the model's, and takes the tokens of
            one of the model's steps and one more for each sequence.
        seed_of: The seed that the model draws a sequence's tokens with.
        most_waiting: Positions of a sequence that wait at most, more than a step's drafts.
        width, dtype: Of the model's hidden states.
        keeps_ends: Others may find the blocks of a sequence that has ended.
    """

    def __init__(
        self,
        model: HeadModel,
        runner: GpuRunner,
        seed_of: Callable[[int], int | None],
        *,
        most_waiting: int,
        width: int,
        dtype: torch.dtype,
        keeps_ends: bool,
    ) -> None:
        self._model = model
        self._runner = runner
        self._seed_of = seed_of
        self._most_waiting = most_waiting
        self._waiting = WaitingStates[_Row](keeps_ends=keeps_ends)
        self._nothing = torch.zeros((1, width), dtype=dtype, device=runner.device)

    def begin(self, released: Sequence[int], copies: Sequence[tuple[int, int]]) -> None:
        for part in self._in_steps(list(self._waiting.release(released))):
            self._read(part)
        if released or copies:
            self._runner.submit(StepBatch((), copies, released))

    def capture(self, capture: Capture) -> None:
        """A step of one layer is launched piece by piece."""

    def follow(self, entries: Sequence[ScheduledSequence], states: torch.Tensor | None) -> None:
        if states is None:
            return
        places = rows_in_step(entries)
        chunks: list[ScheduledSequence] = []
        hidden: list[torch.Tensor] = []
        wanted: list[int] = []  # rows that wait from now on
        for entry, rows in zip(entries, places, strict=True):
            waiting = self._waiting.before(entry)
            if entry.num_drafts or (len(rows) == 1 and entry.sampling is not None):
                wanted += rows
                continue
            tokens = entry.token_ids[waiting.first + 1 - entry.start :]
            if tokens:
                parts = [_gathered(waiting.rows)] if waiting.rows else []
                hidden.append(torch.cat([*parts, states[rows.start : rows.stop - 1]]))
                chunks.append(row_of(entry, tokens, waiting.first))
            waiting.rows.clear()
            wanted.append(rows[-1])
        self._keep(entries, places, states, wanted)
        if chunks:
            states = torch.cat([hidden[index] for index in _order(chunks)])
            self._submit(chunks, self._model.head.fuse(states))

    def _keep(
        self,
        entries: Sequence[ScheduledSequence],
        places: Sequence[range],
        states: torch.Tensor,
        wanted: list[int],
    ) -> None:
        """The states of these rows wait: they are copied, since the next step overwrites them."""
        is_all = len(wanted) == states.shape[0]
        kept = states.clone() if is_all else states.index_select(0, _index(wanted, states.device))
        index_of = {row: row if is_all else index for index, row in enumerate(wanted)}
        for entry, rows in zip(entries, places, strict=True):
            waiting = self._waiting[entry]
            waiting.rows += [(kept, index_of[row]) for row in rows if row in index_of]
            waiting.end, waiting.entry = entry.start + len(rows), entry
        self._read_early(
            [entry for entry in entries if len(self._waiting[entry].rows) >= self._most_waiting]
        )

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        asked = [entry for entry in entries if entry.num_drafts]
        steps, carried = self._read_known(asked)
        going = asked
        for place in range(1, max(entry.num_drafts for entry in asked)):
            left = [index for index, entry in enumerate(going) if place < entry.num_drafts]
            if len(left) < len(going):
                carried = carried.index_select(0, _index(left, carried.device))
                going = [going[index] for index in left]
            rows = [
                row_of(entry, (PENDING_TOKEN,), entry.start + place - 1, self._sampling(entry))
                for entry in going
            ]
            steps.append(self._submit(rows, carried))
            carried = self._carried()
        for entry in asked:
            # What lies behind may be other blocks in the next step.
            known = len(cut(entry.block_ids, entry.start + 1, self._runner.limits.block_size))
            self._runner.rows.cut_table(entry.sequence_id, known)
        return with_drafts(entries, drawn_tokens(steps))

    def _read_known(
        self, asked: Sequence[ScheduledSequence]
    ) -> tuple[list[PendingSamples], torch.Tensor]:
        """Reads all that waits, and guesses each one's first token; with what the next guesses' rows read."""
        reads: list[_Read] = []
        for entry in asked:
            waiting = self._waiting.before(entry)
            if not waiting.rows:  # before the first request: the model's step was not seen
                waiting.rows.append((self._nothing, 0))
            tokens = self._tokens(entry, waiting.first + 1)
            row = row_of(entry, tokens, waiting.first, self._sampling(entry))
            reads.append((row, tuple(waiting.rows)))
            waiting.rows.clear()
        steps: list[PendingSamples] = []
        carried: list[torch.Tensor] = []
        for part in self._in_steps(reads):
            steps.append(self._read(part))
            carried.append(self._carried())
        return steps, torch.cat(carried)

    def _read_early(self, entries: Sequence[ScheduledSequence]) -> None:
        """Reads what waits of sequences that nobody asked about for long, as far as its tokens are known."""
        reads = [self._waiting[entry].read() for entry in entries]
        for part in self._in_steps([read for read in reads if read is not None]):
            self._read(part)

    def _in_steps(self, reads: Sequence[_Read]) -> Iterator[Sequence[_Read]]:
        most = self._runner.limits.max_num_batched_tokens
        return in_steps(reads, lambda read: len(read[1]), most)

    def _read(self, reads: Sequence[_Read]) -> PendingSamples:
        rows = [row for row, _ in reads]
        states = _gathered([one for index in _order(rows) for one in reads[index][1]])
        return self._submit(rows, self._model.head.fuse(states))

    def _submit(self, rows: Sequence[ScheduledSequence], hidden: torch.Tensor) -> PendingSamples:
        self._model.hidden = hidden
        return self._runner.submit(StepBatch(rows))

    def _carried(self) -> torch.Tensor:
        carried = self._model.carried
        assert carried is not None  # noqa: S101 - the step that was submitted last sampled
        return carried

    def _tokens(self, entry: ScheduledSequence, start: int) -> list[int]:
        state = entry.sampling
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        return [*known_tokens(state, start, entry.start), entry.token_ids[0]]

    def _sampling(self, entry: ScheduledSequence) -> SamplingState:
        """The head's row lies one position before the model's that draws the same token."""
        state = entry.sampling
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        before = range(len(state.prompt_token_ids) - 1)  # its length alone is looked at
        return SamplingState(
            draft_params(state.params), self._seed_of(entry.sequence_id), before, ()
        )


def _order(rows: Sequence[ScheduledSequence]) -> list[int]:
    """In which a step lays them out."""
    places = rows_in_step(rows)
    return sorted(range(len(rows)), key=lambda index: places[index].start)


def _gathered(rows: Sequence[_Row]) -> torch.Tensor:
    """`[rows, width]`."""
    parts: list[tuple[torch.Tensor, list[int]]] = []
    for states, index in rows:
        if not parts or parts[-1][0] is not states:
            parts.append((states, []))
        parts[-1][1].append(index)
    found = [states.index_select(0, _index(indexes, states.device)) for states, indexes in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


def _index(rows: list[int], device: torch.device) -> torch.Tensor:
    index = torch.tensor(rows, dtype=torch.int64)
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index
