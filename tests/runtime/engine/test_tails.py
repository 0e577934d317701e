"""A search that goes on token by token computes one token for each, and finds the same as ever."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.block_pool import BlockPool
from octavo.engine.kv.prefix_hashes import BlockNames
from octavo.engine.messages import AddRequest
from octavo.sampling_params import SamplingParams
from tests.support.runtime.oracle import PagedMemoryExecutor, run_alone
from tests.support.runtime.window_oracle import WindowedMemoryExecutor, run_alone_within


class Search:
    """Every live prefix is a request for one token, as in `LLM.beam_search`."""

    def __init__(
        self, num_blocks: int, *, overlap: bool = False, window: int | None = None
    ) -> None:
        self.window = window
        self.executor = (
            PagedMemoryExecutor(num_blocks)
            if window is None
            else WindowedMemoryExecutor(num_blocks, window)
        )
        self.executor.info = dataclasses.replace(self.executor.info, is_asynchronous=overlap)
        config = EngineConfig(model="oracle", max_num_seqs=4, max_num_batched_tokens=32)
        self.core = EngineCore(config, self.executor, clock=lambda: 0.0, is_debugging=True)

    def extend(self, prefixes: list[list[int]]) -> int:
        """Checks what follows each prefix; returns how many tokens were computed for that."""
        params = SamplingParams(max_tokens=1, ignore_eos=True, seed=0)
        first = len(self.executor.batches)
        for name, prefix in enumerate(prefixes):
            self.core.add(AddRequest(str(name), prefix, params))
        found: dict[str, list[int]] = {}
        while self.core.has_work:
            found |= {o.request_id: o.new_token_ids for o in self.core.step().outputs}
        for name, prefix in enumerate(prefixes):
            expected = (
                run_alone(prefix, 1, seed=0, ignore_eos=True)
                if self.window is None
                else run_alone_within(self.window, prefix, 1, seed=0, ignore_eos=True)
            )
            assert found[str(name)] == expected
        return sum(count for batch in self.executor.batches[first:] for _, count in batch)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("window", [None, 6])
def test_each_step_computes_one_token_for_each_beam(overlap: bool, window: int | None) -> None:
    search = Search(64, overlap=overlap, window=window)
    prompt = list(range(1, 8))
    assert search.extend([prompt]) == 7
    beams = [[*prompt, 20 + beam] for beam in range(3)]
    for step in range(12):
        assert search.extend(beams) == 3
        # The first one has two children, the last one none.
        beams = [[*beams[0], 5], [*beams[0], 6], [*beams[1], step]]


def test_salts_do_not_share_tails() -> None:
    names = [BlockNames(salt) for salt in (None, "a", "b")]
    assert len({each.tail(0, [1, 2]) for each in names}) == 3


def test_a_tail_has_a_name_that_no_full_block_has() -> None:
    names = BlockNames()
    names.extend([1, 2, 3, 4], 2)
    assert names.tail(1, [3, 4]) not in names.between(0, 2)
    assert names.tail(0, [1, 2]) not in names.between(0, 2)
    assert names.tail(1, [5]) != names.tail(0, [5])


def test_a_tail_is_the_first_to_go() -> None:
    pool = BlockPool(3)
    blocks = [pool.take() for _ in range(3)]
    pool.register(blocks[0], b"old")
    pool.register(blocks[1], b"tail", is_tail=True)
    pool.register(blocks[2], b"young")
    for block in blocks:
        pool.release(block)
    assert pool.take() == blocks[1]
    assert pool.find(b"tail") is None
    pool.check_integrity([blocks[1]])
    pool.register(blocks[1], b"full")  # what comes after a tail is none
    pool.release(blocks[1])
    assert pool.take() == blocks[0]


def test_longer_requests_leave_no_tail() -> None:
    search = Search(64)
    params = SamplingParams(max_tokens=2, ignore_eos=True, seed=0)
    search.core.add(AddRequest("r", [1, 2, 3, 4, 5, 6], params))
    search.core.step()
    search.core.abort(["r"])  # all of the prompt is computed, and nothing else
    blocks = search.core._blocks
    assert isinstance(blocks, BlockManager)
    assert not blocks._pool._tails


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    num_blocks=st.integers(8, 24),
    overlap=st.booleans(),
    window=st.sampled_from([None, None, 3, 9]),
)
def test_any_search_on_a_small_cache_finds_the_same(
    data: st.DataObject, num_blocks: int, overlap: bool, window: int | None
) -> None:
    search = Search(num_blocks, overlap=overlap, window=window)
    beams = [data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=12), label="prompt")]
    for _ in range(data.draw(st.integers(1, 14), label="steps")):
        search.extend(beams)
        choices = st.tuples(st.integers(0, len(beams) - 1), st.integers(1, 3))
        extensions = data.draw(st.lists(choices, min_size=1, max_size=6), label="extensions")
        beams = [[*beams[parent], token] for parent, token in extensions]
