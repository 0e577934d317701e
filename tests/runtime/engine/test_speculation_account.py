"""What guessing costs beside none, in a model of an engine: at any costs, whatever share comes true."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.speculation.model_proposer import ModelProposer
from octavo.engine.speculation.speculation import Speculation
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence

GUESSES = 4


class Guessed:
    """Sequences that decode while a model guesses for them, in steps without guesses.

    Args:
        lead: See `Speculation`.
        following: What it takes that a step is seen.
        catching_up: To read the sequences after a rest.
        drafting: For each place, of which the model guesses all sequences at once.
        checking: For each draft, that the model checks.
    """

    def __init__(
        self,
        num_sequences: int,
        *,
        lead: int = 16,
        following: float = 0.0,
        catching_up: float = 0.0,
        drafting: float = 0.1,
        checking: float = 0.02,
    ) -> None:
        self.random = random.Random(0)  # noqa: S311
        self.speculation = Speculation(ModelProposer(GUESSES), GUESSES, lead=lead)
        self.following, self.catching_up = following, catching_up
        self.drafting, self.checking = drafting, checking
        self.num_sequences = num_sequences
        self.has_caught_up = False
        self.time = self.time_without = 0.0
        self.sequences = [
            Sequence(i, f"r{i}", 0, [0] * 9, SamplingParams(), 10**6) for i in range(99)
        ]

    def step(self, share: float, num_sequences: int | None = None) -> int:
        """With guesses that come true so often. Returns how many ran."""
        running = self.sequences[: num_sequences or self.num_sequences]
        drafts = self.speculation.propose(running)
        batch, updates = ScheduledBatch(), []
        for sequence in running:
            count = len(drafts.get(sequence.sequence_id, ()))
            num_true = next((i for i in range(count) if self.random.random() >= share), count)
            tokens = [SampledToken(sequence.sequence_id, 1)] * (1 + num_true)
            batch.sequences.append(sequence)
            batch.entries.append(
                ScheduledSequence(
                    sequence.sequence_id, [0] * (1 + count), 9, [], sequence.sampling, None, count
                )
            )
            batch.shares.append(tokens)
            updates.append((sequence, tokens))
        batch.num_tokens = sum(len(entry.token_ids) for entry in batch.entries)
        num_drafts = batch.num_tokens - len(running)
        drafter = self.of_drafter([len(one) for one in drafts.values()])
        seconds = 1.0 + self.checking * num_drafts + drafter
        self.speculation.observe(batch, updates, seconds, 0.0, drafter)
        self.time += seconds
        self.time_without += sum(map(len, batch.shares)) / len(running)
        return num_drafts

    def of_drafter(self, lengths: list[int]) -> float:
        if not self.speculation.is_followed:
            self.has_caught_up = False
            return 0.0
        seconds = self.following + self.drafting * max(lengths, default=0)
        if lengths and not self.has_caught_up:
            self.has_caught_up = True
            seconds += self.catching_up
        return seconds

    def steps(self, share: float, count: int) -> Iterator[int]:
        return (self.step(share) for _ in range(count))


@settings(max_examples=20, deadline=None)
@given(
    num_sequences=st.sampled_from([1, 8, 32]),
    share=st.floats(0.0, 1.0),
    lead=st.sampled_from([0, 16]),
    following=st.floats(0.0, 0.4),
    catching_up=st.floats(0.0, 20.0),
    drafting=st.floats(0.0, 3.0),
    checking=st.floats(0.0, 1.0),
)
def test_guesses_cost_three_percent_at_most(
    num_sequences: int,
    share: float,
    lead: int,
    following: float,
    catching_up: float,
    drafting: float,
    checking: float,
) -> None:
    """Whatever they cost and however often they come true, beside what the first tries take."""
    run = Guessed(
        num_sequences,
        lead=lead,
        following=following,
        catching_up=catching_up,
        drafting=drafting,
        checking=checking,
    )
    for _ in run.steps(share, 500):
        pass
    time, without = run.time, run.time_without
    first = 2 * (catching_up + GUESSES * drafting + 16 * checking) + 40 * following + 3
    assert time < 1.03 * without + first
    for _ in run.steps(share, 2000):
        pass
    dearest = catching_up + GUESSES * drafting + 16 * checking + 40 * following
    assert run.time - time < 1.03 * (run.time_without - without) + 2 * dearest


@pytest.mark.parametrize("num_sequences", [1, 8, 32])
@pytest.mark.parametrize("lead", [0, 16])
def test_guesses_that_begin_to_come_true_are_found(num_sequences: int, lead: int) -> None:
    """After much that none did: within a thousand steps of one answer they run, and stay."""
    checking = 0.2 / num_sequences
    run = Guessed(num_sequences, lead=lead, following=0.02, catching_up=1.0, checking=checking)
    for _ in run.steps(0.05, 3000):
        pass
    for _ in run.steps(0.9, 1000):
        pass
    run.time = run.time_without = 0.0
    ran = sum(count > 0 for count in run.steps(0.9, 200))
    assert ran > 180
    assert run.time < 0.9 * run.time_without


def test_sizes_begin_with_what_is_known_of_others() -> None:
    """A load whose number of sequences changes tries no more often than one whose does not."""
    run = Guessed(8, drafting=4.0)
    for _ in run.steps(0.0, 500):
        pass
    run.time = run.time_without = 0.0
    for step in range(600):
        run.step(0.0, 1 + step // 50)
    assert run.time < 1.03 * run.time_without
