"""What is found again, by whom, and in which order it is given up."""

from __future__ import annotations

from typing import Any

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.kv.block_manager import BlockManager
from octavo.engine.kv.prefix_hashes import BlockNames
from octavo.engine.messages import AddRequest, TokenOutput
from octavo.sampling_params import SamplingParams
from tests.support.runtime.oracle import PagedMemoryExecutor

PROMPT = list(range(1, 14))  # three blocks of four, and one token


def make_core(num_blocks: int = 64, **options: Any) -> EngineCore:
    executor = PagedMemoryExecutor(num_blocks)
    config = EngineConfig(model="oracle", max_num_seqs=8, max_num_batched_tokens=64, **options)
    return EngineCore(config, executor, clock=lambda: 0.0, is_debugging=True)


def run(
    core: EngineCore,
    prompt: list[int],
    salt: str | None = None,
    max_tokens: int = 2,
    n: int = 1,
) -> list[TokenOutput]:
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, seed=0, n=n)
    core.add(AddRequest("r", prompt, params, cache_salt=salt))
    outputs = []
    while core.has_work:
        outputs += core.step().outputs
    return outputs


def cached(core: EngineCore, prompt: list[int], salt: str | None = None) -> int:
    outputs = run(core, prompt, salt)
    assert all(output.num_cached_tokens == 0 for output in outputs[1:])
    return outputs[0].num_cached_tokens


def names_of(token_ids: list[int], salt: str | None = None) -> list[bytes]:
    chain = BlockNames(salt)
    chain.extend(token_ids, 4)
    return chain.between(0, len(chain))


def test_a_prompt_that_comes_again_is_found_but_for_its_last_tokens() -> None:
    core = make_core()
    assert cached(core, PROMPT) == 0
    assert cached(core, PROMPT) == 12
    assert cached(core, PROMPT[:12]) == 8  # the last token has to run, and with it its block
    assert cached(core, [*PROMPT[:8], 30, 31, 32, 33, 34]) == 8
    assert cached(core, [30, *PROMPT[1:]]) == 0
    stats = core.stats()
    assert stats.prefix_cache_hit_tokens_total == 12 + 8 + 8
    assert stats.prefix_cache_query_tokens_total == stats.prompt_tokens_total == 13 * 4 + 12
    assert stats.kv_blocks_used == 0


def test_an_output_is_found_as_the_next_turns_prompt() -> None:
    core = make_core()
    answer = [output.new_token_ids[0] for output in run(core, PROMPT, max_tokens=8)]
    assert (
        cached(core, [*PROMPT, *answer, 1, 2]) == 20
    )  # 13 + 8, but the last one was never fed back


def test_salts_do_not_share() -> None:
    core = make_core()
    run(core, PROMPT, "a")
    assert cached(core, PROMPT, "b") == 0
    assert cached(core, PROMPT) == 0
    assert cached(core, PROMPT, "a") == 12


def test_nothing_is_found_where_the_cache_is_off() -> None:
    core = make_core(enable_prefix_caching=False)
    run(core, PROMPT)
    assert cached(core, PROMPT) == 0
    assert core.stats().prefix_cache_query_tokens_total == 0


def test_running_sequences_share_blocks() -> None:
    core = make_core()
    params = SamplingParams(max_tokens=9, ignore_eos=True, seed=0)
    core.add(AddRequest("first", PROMPT, params))
    core.step()
    alone = core.stats()
    core.add(AddRequest("second", PROMPT, params))
    core.step()
    both = core.stats()
    assert both.kv_blocks_used == alone.kv_blocks_used + 1
    assert both.kv_tokens_held == alone.kv_tokens_held + 1 + 1


def test_n_completions_compute_their_prompt_once() -> None:
    for caching in (True, False):
        core = make_core(enable_prefix_caching=caching)
        executor = core._executor
        assert isinstance(executor, PagedMemoryExecutor)
        outputs = run(core, PROMPT[:11], max_tokens=3, n=4)
        assert len(outputs) == 12
        assert sum(output.num_cached_tokens for output in outputs) == 0
        num_prefilled = sum(count for _, count in executor.batches[0] + executor.batches[1])
        assert num_prefilled == 11 + 1 + 3  # the first's decode runs beside the others' last token
        assert executor.num_copies == 3


def test_a_completion_whose_prompt_fills_its_blocks_needs_no_copy() -> None:
    core = make_core()
    run(core, PROMPT, max_tokens=3, n=3)
    executor = core._executor
    assert isinstance(executor, PagedMemoryExecutor)
    assert executor.num_copies == 0


def test_the_oldest_chain_goes_first_and_its_end_before_its_begin() -> None:
    core = make_core(num_blocks=8)
    old, young = PROMPT[:9], [20 + token for token in PROMPT[:9]]
    run(core, old, max_tokens=1)
    run(core, young, max_tokens=1)  # two full blocks of each are cached, four are free
    run(core, [39] * 20, max_tokens=1)  # needs one more than that
    blocks = core._scheduler._blocks
    assert [blocks.find_block(name) is None for name in names_of(old[:8])] == [False, True]
    assert [blocks.find_block(name) is None for name in names_of(young[:8])] == [False, False]


def test_a_block_is_named_by_all_before_it() -> None:
    tokens = list(range(8))
    assert len(set(names_of(tokens))) == 2
    assert names_of(tokens) == names_of(tokens)
    assert names_of(tokens)[1] != names_of([9, *tokens[1:]])[1]
    assert names_of(tokens)[0] == names_of([*tokens[:4], 9, 9, 9, 9])[0]
    assert names_of(tokens)[0] != names_of(tokens, salt="")[0]
    assert names_of([1, 2, 3, 4]) != names_of([2, 1, 3, 4])
    assert names_of([256, 0, 0, 0]) != names_of([0, 1, 0, 0])


def test_names_do_not_depend_on_how_many_are_made_at_once() -> None:
    chain = BlockNames("salt")
    chain.extend(range(4), 4)
    chain.extend(range(4, 16), 4)
    assert chain.between(0, 4) == names_of(list(range(16)), "salt")
    assert chain.between(1, 3) == names_of(list(range(16)), "salt")[1:3]


def test_a_cached_block_that_is_found_again_survives_the_next_eviction() -> None:
    blocks = BlockManager(num_blocks=3, block_size=4)
    for name in (b"a", b"b", b"c"):
        blocks.allocate(ord(name), 4)
        blocks.register_blocks(ord(name), 0, [name])
    for name in (b"a", b"b", b"c"):
        blocks.free(ord(name))
    found = blocks.find_block(b"a")
    assert found is not None
    blocks.start(1, [found])
    blocks.free(1)
    blocks.allocate(2, 8)
    assert [blocks.find_block(name) is None for name in (b"a", b"b", b"c")] == [False, True, True]
    blocks.check_integrity()
