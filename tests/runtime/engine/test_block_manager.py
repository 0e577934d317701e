from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from octavo.engine.block_manager import BlockManager, OutOfBlocksError


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


def test_integrity_finds_a_block_that_two_own() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks.allocate(1, 16)
    blocks._free.append(blocks.block_table(1)[0])
    with pytest.raises(RuntimeError, match="Block 0 is in"):
        blocks.check_integrity()


def test_integrity_finds_a_lost_block() -> None:
    blocks = BlockManager(num_blocks=4, block_size=16)
    blocks._free.remove(3)
    with pytest.raises(RuntimeError, match=r"\[3\] are lost"):
        blocks.check_integrity()


class BlockManagerMachine(RuleBasedStateMachine):
    """Any calls in any order, beside a model that only counts."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(num_blocks=12, block_size=4)
        self.tokens: dict[int, int] = {}

    @rule(sequence=st.integers(0, 5), tokens=st.integers(1, 30))
    def allocate(self, sequence: int, tokens: int) -> None:
        owned = -(-self.tokens.get(sequence, 0) // 4)
        others = sum(-(-count // 4) for count in self.tokens.values()) - owned
        fits = others + max(owned, -(-tokens // 4)) <= 12
        assert self.blocks.can_allocate(sequence, tokens) == fits
        if fits:
            self.blocks.allocate(sequence, tokens)
            self.tokens[sequence] = max(tokens, self.tokens.get(sequence, 0))
        else:
            with pytest.raises(OutOfBlocksError):
                self.blocks.allocate(sequence, tokens)

    @rule(sequence=st.integers(0, 5))
    def free(self, sequence: int) -> None:
        self.blocks.free(sequence)
        self.tokens.pop(sequence, None)

    @invariant()
    def every_block_has_one_owner(self) -> None:
        self.blocks.check_integrity()
        for sequence in range(6):
            expected = -(-self.tokens.get(sequence, 0) // 4)
            assert len(self.blocks.block_table(sequence)) == expected


TestBlockManagerMachine = BlockManagerMachine.TestCase
TestBlockManagerMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
