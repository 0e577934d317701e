"""What is guessed, and when guesses are run."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.engine.requests.sequence import Sequence
from octavo.engine.scheduled_batch import ScheduledBatch
from octavo.engine.speculation.allowance import Allowance
from octavo.engine.speculation.choice import choose_counts
from octavo.engine.speculation.ngram import NgramProposer
from octavo.engine.speculation.ngram_index import NgramIndex
from octavo.engine.speculation.speculation import Speculation
from octavo.engine.speculation.step_cost import StepCost
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence


@given(
    tokens=st.lists(st.integers(0, 2), max_size=40),
    least=st.integers(1, 3),
    more=st.integers(0, 3),
    count=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_the_longest_match_is_found_and_continued(
    tokens: list[int], least: int, more: int, count: int, cuts: list[int]
) -> None:
    most, index = least + more, NgramIndex(least, least + more)
    ends = sorted({min(cut, len(tokens)) for cut in cuts} | {len(tokens)})
    for start, end in zip([0, *ends], ends, strict=False):
        index.extend(tokens[start:end])
    found, length = index.look_up(count)
    places = [
        (match, place)
        for place in range(least, len(tokens))
        if (match := common_end(tokens[:place], tokens, most)) >= least
    ]
    if not places:
        assert (found, length) == ([], 0)
        return
    recent = sorted(places, key=lambda each: -each[1])[:8]  # it looks at no more
    assert length == max(match for match, _ in recent)
    place = max(place for match, place in recent if match == length)
    grown = list(tokens)
    for _ in range(count):
        grown.append(grown[place + len(grown) - len(tokens)])
    assert found == grown[len(tokens) :]


def common_end(left: list[int], right: list[int], most: int) -> int:
    length = 0
    while length < min(most, len(left)) and left[-1 - length] == right[-1 - length]:
        length += 1
    return length


class Line:
    """Costs that grow by the same with each draft."""

    reach = 10**9

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def seconds(self, num_drafts: int) -> float:
        return 1.0 + self.slope * num_drafts


@given(
    proposals=st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 4)), min_size=1, max_size=3),
    others=st.integers(0, 4),
    slope=st.floats(0.0, 1.0),
)
def test_no_other_choice_of_drafts_promises_more(
    proposals: list[tuple[float, int]], others: int, slope: float
) -> None:
    shares, lengths = [p for p, _ in proposals], [length for _, length in proposals]
    size, curve = len(proposals) + others, Line(slope)

    def rate(counts: list[int]) -> float:
        gained = sum(
            p**place for p, n in zip(shares, counts, strict=True) for place in range(1, n + 1)
        )
        return (size + gained) / curve.seconds(sum(counts))

    chosen = choose_counts(shares, lengths, size, curve)
    assert all(0 <= n <= length for n, length in zip(chosen, lengths, strict=True))
    every: list[list[int]] = [[]]
    for length in lengths:
        every = [[*each, n] for each in every for n in range(length + 1)]
    best = max(map(rate, every))
    nothing = rate([0] * len(lengths))
    assert rate(chosen) >= nothing - 1e-9
    assert rate(chosen) >= best - 1e-9 or best <= 1.03 * nothing


def test_costs_are_what_was_measured_and_grow() -> None:
    cost = StepCost()
    assert cost.curve(4) is None
    for seconds in (1.0, 9.0, 1.0):
        cost.observe(4, 0, seconds)
    curve = cost.curve(4)
    assert curve is not None
    assert (curve.seconds(0), curve.seconds(7)) == (1.0, 1.0)  # not tried yet: hoped to be free
    cost.observe(4, 8, 3.0)
    assert (curve.seconds(4), curve.seconds(8), curve.seconds(16)) == (2.0, 3.0, 5.0)
    cost.observe(4, 4, 0.5)
    assert curve.seconds(4) == 1.0
    assert cost.curve(5) is None


def test_what_was_measured_long_ago_is_tried_again() -> None:
    cost = StepCost()
    for _ in range(3):
        cost.observe(1, 0, 1.0)
    cost.observe(1, 4, 50.0)
    curve = cost.curve(1)
    assert curve is not None
    assert curve.seconds(4) == 50.0
    for _ in range(2100):
        cost.observe(1, 0, 1.0)
    assert curve.seconds(4) == 1.0


class Run:
    """Sequences that decode, with steps that take as long as a rule says.

    Args:
        looking: Seconds that it takes to look for guesses of one sequence.
        noise: Steps take up to so much longer, as a share.
    """

    def __init__(
        self,
        num_sequences: int,
        vocab: int,
        seconds: Line,
        *,
        looking: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        self.looking = looking
        self.noise = noise
        self.random = random.Random(0)  # noqa: S311
        self.vocab = vocab
        self.seconds = seconds
        self.speculation = Speculation(NgramProposer(2, 5, 4), 4)
        self.sequences = [
            Sequence(i, f"r{i}", 0, self.draw(64), SamplingParams(), 10**6)
            for i in range(num_sequences)
        ]
        self.time = self.time_without = 0.0

    def draw(self, count: int) -> list[int]:
        return [self.random.randrange(self.vocab) for _ in range(count)]

    def step(self, follow: list[int] | None = None) -> int:
        """Returns how many drafts ran. With `follow` every sequence repeats it."""
        proposer, looked = self.speculation._proposer, len(self.sequences)
        assert isinstance(proposer, NgramProposer)
        ended = {name: len(index) for name, index in proposer._indexes.items()}
        drafts = self.speculation.propose(self.sequences)
        if ended == {name: len(index) for name, index in proposer._indexes.items()}:
            looked = 0
        batch, updates, num_drafts = ScheduledBatch(), [], 0
        for sequence in self.sequences:
            guesses = drafts.get(sequence.sequence_id, ())
            num_drafts += len(guesses)
            tokens = list[SampledToken]()
            for guess in (*guesses, -1):
                place = len(sequence.output_token_ids)
                token = self.draw(1)[0] if follow is None else follow[place % len(follow)]
                tokens.append(SampledToken(sequence.sequence_id, token))
                sequence.output_token_ids.append(token)
                if token != guess:
                    break
            batch.sequences.append(sequence)
            batch.entries.append(
                ScheduledSequence(
                    sequence.sequence_id,
                    [0, *guesses],
                    1,
                    [],
                    sequence.sampling,
                    None,
                    len(guesses),
                )
            )
            batch.shares.append(tokens)
            updates.append((sequence, tokens))
        batch.num_tokens = len(batch.entries) + num_drafts
        looking = self.looking * looked
        seconds = (
            self.seconds.seconds(num_drafts) * (1 + self.noise * self.random.random()) + looking
        )
        self.speculation.observe(batch, updates, seconds, looking)
        self.time += self.seconds.seconds(num_drafts) + looking
        self.time_without += sum(map(len, batch.shares)) / len(batch.shares)
        return num_drafts


@pytest.mark.parametrize(("looking", "noise"), [(0.0, 0.0), (0.004, 0.0), (0.002, 0.3)])
@pytest.mark.parametrize(("num_sequences", "slope"), [(1, 0.3), (8, 0.1), (32, 0.05)])
def test_text_that_repeats_by_chance_alone_costs_next_to_nothing(
    num_sequences: int, slope: float, looking: float, noise: float
) -> None:
    """Two tokens match often in so small a vocabulary, and what followed them does not come again. To look
    costs up to an eighth of a step, and what is measured is disturbed."""
    run = Run(num_sequences, 12, Line(slope), looking=looking, noise=noise)
    for _ in range(1000):
        run.step()
    assert run.time < 1.02 * run.time_without
    early = Run(num_sequences, 12, Line(slope), looking=looking, noise=noise)
    for _ in range(100):
        early.step()
    assert early.time < 1.03 * early.time_without


@given(gains=st.lists(st.floats(-20.0, 8.0), max_size=60), least=st.sampled_from([0, 64]))
def test_an_allowance_bounds_what_is_lost_and_never_ends(gains: list[float], least: int) -> None:
    """Each dear step is earned back before the next one that guesses."""
    allowance, sum_gained, num_steps = Allowance(least), 0.0, 0
    for gained in gains:
        owed = sum_gained + 0.01 * num_steps
        assert owed > -0.5 - 1e-6
        allowance.settle(gained)
        sum_gained += gained
        num_steps += 1 + allowance.rest
        while not allowance.is_open:
            allowance.pass_step()
    allowance.settle(-1e6)  # a step that was disturbed
    assert allowance.rest <= 4100


def test_what_failed_often_is_tried_seldom_but_again() -> None:
    allowance, rests = Allowance(64), list[int]()
    for _ in range(6):
        allowance.give_up()
        rests.append(allowance.rest)
        for _ in range(allowance.rest):
            allowance.pass_step()
    assert rests == [64, 128, 256, 512, 512, 512]
    other = allowance.of_others()
    other.give_up()
    assert other.rest == 512
    for _ in range(4):
        allowance.settle(1.0)
    allowance.give_up()
    assert allowance.rest == 64


def test_text_that_repeats_is_guessed_also_after_much_that_did_not() -> None:
    run = Run(2, vocab=1000, seconds=Line(0.05))
    for _ in range(400):
        run.step()
    run.time = run.time_without = 0.0
    for _ in range(200):
        run.step(follow=[5, 3, 5, 8, 1, 9, 9, 2])
    assert run.time < 0.5 * run.time_without
    counts = run.speculation.counts
    assert counts.num_draft_tokens >= sum(counts.num_accepted) > 500
    assert counts.num_accepted == sorted(counts.num_accepted, reverse=True)
