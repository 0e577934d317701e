"""Draft model: a smaller model that guesses what the model draws next (speculative decoding, Leviathan et
al., 2023).

It follows every chunk of a prompt, and catches up with an answer when it is asked for guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from octavo.sampling.host.sampler import Sampler
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.runner import ModelRunner, StepResult
from octavo.worker.cpu.step_inputs import StepInputs
from octavo.worker.draft_coverage import DraftCoverage
from octavo.worker.draft_sampling import draft_sampling, known_tokens, with_drafts
from octavo.worker.draft_steps import in_steps, readable, row_of


class DraftModel:
    """See `Drafter`.

    Args:
        runner: Of the draft model, with as many blocks as the model's.
        max_tokens: Of one of its steps.
        block_size: Tokens of a block of its KV cache, as of the model's.
    """

    def __init__(self, runner: ModelRunner, max_tokens: int, block_size: int) -> None:
        self._runner = runner
        self._max_tokens = max_tokens
        self._sampler = Sampler(0)
        self._coverage = DraftCoverage(block_size)

    def rest(self) -> None:
        self._coverage.clear()

    def begin(self, released: Iterable[int], copies: Sequence[tuple[int, int]]) -> None:
        self._coverage.begin(released, copies)
        self._runner.copy_blocks(copies)

    def follow(self, entries: Sequence[ScheduledSequence], inputs: StepInputs) -> None:
        del inputs
        if chunks := self._coverage.follow(entries):
            self._run(chunks)

    def propose(self, entries: Sequence[ScheduledSequence]) -> list[ScheduledSequence]:
        asked = [entry for entry in entries if entry.num_drafts]
        drafts: dict[int, list[int]] = {entry.sequence_id: [] for entry in asked}
        for place in range(max((entry.num_drafts for entry in asked), default=0)):
            going = [entry for entry in asked if place < entry.num_drafts]
            if place == 0:
                rows = [self._catch_up(entry) for entry in going]
            else:
                rows = [
                    _row(entry, [drafts[entry.sequence_id][-1]], entry.start + place, place)
                    for entry in going
                ]
            for row, token in zip(rows, self._draw(rows), strict=True):
                drafts[row.sequence_id].append(token)
        for entry in asked:
            self._coverage.read(entry, entry.start + entry.num_drafts)
        return with_drafts(entries, drafts)

    def _catch_up(self, entry: ScheduledSequence) -> ScheduledSequence:
        """The row that reads what it has not read of the sequence; of much it reads the first part at
        once."""
        state, end = entry.sampling, entry.start + 1
        assert state is not None  # noqa: S101 - drafts are for what is sampled
        first = self._coverage.before(entry)
        while True:
            stop = min(end, first + self._max_tokens)
            tokens = known_tokens(state, first, stop)
            if stop == end:
                return _row(entry, tokens, first, 0)
            self._run([row_of(entry, tokens, first)])
            first = stop

    def _run(self, rows: Sequence[ScheduledSequence]) -> StepResult:
        return self._runner.run(readable(rows, self._runner.model.spec.vocab_size))

    def _draw(self, rows: Sequence[ScheduledSequence]) -> list[int]:
        """One token for each row, in as many steps as they take."""
        tokens: list[int] = []
        for part in in_steps(rows, lambda row: len(row.token_ids), self._max_tokens):
            result = self._run(part)
            assert result.logits is not None  # noqa: S101 - every row is sampled
            inputs = result.inputs
            drawn = self._sampler.sample(result.logits, inputs.sequence_ids, inputs.sampling)
            tokens += [token.token_id for token in drawn]
        return tokens


def _row(
    entry: ScheduledSequence, token_ids: list[int], start: int, place: int
) -> ScheduledSequence:
    state = entry.sampling
    assert state is not None  # noqa: S101 - drafts are for what is sampled
    return row_of(entry, token_ids, start, draft_sampling(state, place))
