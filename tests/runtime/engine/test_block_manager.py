from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.block_pool import OutOfBlocksError


def test_a_block_is_taken_only_when_a_token_needs_it() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(7, 16)
    assert len(blocks.block_table(7)) == 1
    blocks.allocate(7, 17)
    assert len(blocks.block_table(7)) == 2
    blocks.allocate(7, 18)
    assert blocks.num_free_blocks == 2


def test_a_request_for_too_many_blocks_names_them_and_changes_nothing() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(1, 33)
    with pytest.raises(
        OutOfBlocksError, match="needs 2 more blocks for 17 tokens, 1 of 4 are free"
    ):
        blocks.allocate(2, 17)
    assert blocks.num_free_blocks == 1
    assert blocks.block_table(2) == ()


def test_the_live_table_grows_in_place() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(1, 1)
    table = blocks.block_table(1)
    blocks.allocate(1, 64)
    assert len(table) == 4


def test_a_shared_block_is_free_when_the_last_holder_lets_go() -> None:
    blocks = BlockManager(num_blocks=4, block_size=4)
    blocks.allocate(1, 8)
    blocks.start(2, blocks.block_table(1))
    assert (blocks.num_free_blocks, blocks.num_blocks_saved) == (2, 2)
    blocks.free(1)
    assert (blocks.num_free_blocks, blocks.num_blocks_saved) == (2, 0)
    blocks.free(2)
    assert blocks.num_free_blocks == 4


def test_held_blocks_need_no_free_ones_and_cached_ones_do() -> None:
    blocks = BlockManager(num_blocks=4, block_size=4)
    blocks.allocate(1, 12)
    assert blocks.can_start(4, blocks.block_table(1), spare=0)
    assert not blocks.can_start(4, blocks.block_table(1), spare=1)
    blocks.register_blocks(1, 0, [b"a", b"b", b"c"])
    cached = list(blocks.block_table(1))
    blocks.free(1)
    blocks.allocate(2, 4)
    assert blocks.can_start(3, cached, spare=0)
    assert not blocks.can_start(4, cached, spare=0)


def test_integrity_finds_a_wrong_reference_count() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(1, 16)
    blocks._pool.share(blocks.block_table(1)[0])
    with pytest.raises(RuntimeError, match="Block 0 counts 2 references, 1 hold it"):
        blocks.check_integrity()


def test_integrity_finds_a_lost_block() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks._pool._free.remove(3)
    with pytest.raises(RuntimeError, match="Block 3 is in 0 places"):
        blocks.check_integrity()


def test_integrity_finds_a_block_that_is_held_and_free() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(1, 16)
    blocks._pool._free.append(0)
    with pytest.raises(RuntimeError, match="Block 0 is in 2 places"):
        blocks.check_integrity()


def test_a_dropped_block_keeps_its_place_and_is_free_for_others() -> None:
    blocks = BlockManager(num_blocks=4, block_size=4)
    blocks.allocate(1, 16)
    rest = list(blocks.block_table(1))[2:]
    blocks.drop(1, 2)
    assert (blocks.num_free_blocks, blocks.num_dropped(1), blocks.num_blocks_saved) == (2, 2, 2)
    assert list(blocks.block_table(1))[2:] == rest
    blocks.allocate(2, 8)
    blocks.check_integrity()
    blocks.free(1)
    assert (blocks.num_free_blocks, blocks.num_dropped(1)) == (2, 0)


@pytest.mark.parametrize(("num_tokens", "expected"), [(0, 0), (10, 0), (11, 1), (14, 1), (15, 2)])
def test_a_block_is_passed_when_the_next_query_sees_none_of_it(
    num_tokens: int, expected: int
) -> None:
    blocks = BlockManager(num_blocks=4, block_size=4)
    assert blocks.num_passed(num_tokens, window=8) == expected  # (p - 8, p]: at 11 from 4 on


class BlockManagerMachine(RuleBasedStateMachine):
    """Any calls in any order, beside a model that only counts."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(num_blocks=12, block_size=4)
        self.tokens: dict[int, int] = {}
        self.dropped: dict[int, int] = {}

    def held(self, sequence: int) -> int:
        return -(-self.tokens.get(sequence, 0) // 4) - self.dropped.get(sequence, 0)

    @rule(sequence=st.integers(0, 5), tokens=st.integers(1, 30))
    def allocate(self, sequence: int, tokens: int) -> None:
        before = -(-self.tokens.get(sequence, 0) // 4)
        more = max(-(-tokens // 4) - before, 0)
        fits = sum(map(self.held, self.tokens)) + more <= 12
        assert self.blocks.can_allocate(sequence, tokens) == fits
        if fits:
            self.blocks.allocate(sequence, tokens)
            self.tokens[sequence] = max(tokens, self.tokens.get(sequence, 0))
        else:
            with pytest.raises(OutOfBlocksError):
                self.blocks.allocate(sequence, tokens)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), count=st.integers(0, 6))
    def drop(self, data: st.DataObject, count: int) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.tokens)))
        count = min(count, -(-self.tokens[sequence] // 4))
        self.blocks.drop(sequence, count)
        self.dropped[sequence] = max(count, self.dropped.get(sequence, 0))

    @rule(sequence=st.integers(0, 5))
    def free(self, sequence: int) -> None:
        self.blocks.free(sequence)
        self.tokens.pop(sequence, None)
        self.dropped.pop(sequence, None)

    @invariant()
    def every_block_has_one_owner(self) -> None:
        self.blocks.check_integrity()
        assert self.blocks.num_free_blocks == 12 - sum(map(self.held, self.tokens))
        for sequence in range(6):
            expected = -(-self.tokens.get(sequence, 0) // 4)
            assert len(self.blocks.block_table(sequence)) == expected


TestBlockManagerMachine = BlockManagerMachine.TestCase
TestBlockManagerMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
