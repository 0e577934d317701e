"""What a draft has read, of sequences and of blocks that outlive them."""

from __future__ import annotations

from msgspec.structs import replace

from octavo.worker.batch import ScheduledSequence
from octavo.worker.draft_coverage import DraftCoverage


def entry(name: int, start: int, count: int, blocks: list[int]) -> ScheduledSequence:
    return ScheduledSequence(name, [1] * count, start, blocks, None)


def test_rejected_drafts_are_not_read_when_nobody_guesses_for_a_while() -> None:
    coverage = DraftCoverage(4)
    coverage.read(entry(1, 0, 5, [7, 3]), 5)
    coverage.read(entry(1, 5, 4, [7, 3, 8]), 8)  # the token at 5 and three drafts
    coverage.skip(entry(1, 6, 1, [7, 3]))  # none came true
    coverage.skip(entry(1, 7, 1, [7, 3]))
    coverage.skip(entry(1, 8, 1, [7, 3, 8]))
    assert coverage.before(entry(1, 9, 1, [7, 3, 8])) == 6
    assert coverage.before(entry(2, 8, 1, [7, 3, 5])) == 6  # who finds both blocks in the cache


def test_a_block_counts_as_far_as_it_was_read() -> None:
    coverage = DraftCoverage(4)
    coverage.read(entry(1, 0, 6, [7, 3]), 6)
    for start in range(6, 12):
        coverage.skip(entry(1, start, 1, [7, 3, 8]))
    coverage.begin([1], [(3, 2)])
    assert coverage.before(entry(2, 12, 1, [7, 3, 8, 5])) == 6
    assert coverage.before(entry(3, 5, 1, [7, 2])) == 5  # of a copied block a part
    assert coverage.before(entry(4, 7, 1, [7, 2])) == 6
    coverage.read(entry(2, 12, 1, [7, 3, 8, 5]), 13)  # it caught up: for all that come
    assert coverage.before(entry(5, 12, 1, [7, 3, 8, 6])) == 12


def test_a_block_of_others_before_is_not_read() -> None:
    coverage = DraftCoverage(4)
    coverage.read(entry(1, 0, 8, [7, 3]), 8)
    coverage.begin([1], [])
    coverage.skip(entry(2, 0, 6, [3, 7]))
    coverage.begin([2], [])
    assert coverage.before(entry(3, 6, 1, [3, 7])) == 0


def test_prompts_are_not_read_while_nobody_asks_for_guesses_and_are_again_when_somebody_does() -> (
    None
):
    coverage = DraftCoverage(4)

    def is_read(name: int) -> bool:
        return bool(coverage.follow([entry(name, 0, 3, [name])]))

    def decode(num_drafts: int) -> None:
        row = replace(entry(0, 5, 1 + num_drafts, [0, 0]), num_drafts=num_drafts)
        coverage.follow([row])

    assert is_read(1)
    for _ in range(100):
        decode(0)
    assert not is_read(2)
    assert coverage.before(entry(2, 3, 1, [2])) == 0, "it catches up when it is asked"
    decode(1)
    assert is_read(3)
