"""With an EAGLE-3 head an engine says what it says without, and a head that is right saves steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.engine.speculation import speculation
from octavo.errors import InvalidConfigurationError, ModelInvalidError
from octavo.lora import LoRARequest
from octavo.sleep_level import SleepLevel
from octavo.structured_outputs import StructuredOutputsParams
from octavo.worker.cpu import eagle
from octavo.worker.gpu.parked_weights import storages_of
from tests.support.runtime.adapters import save_adapter
from tests.support.runtime.eagle_heads import ReferenceHead, copying_head, without_layers
from tests.support.runtime.gpu_engine import started_as_on_gpus
from tests.support.runtime.llm_on_llama import KV_BYTES_PER_TOKEN
from tests.support.runtime.tiny_llama import save_tiny_llama

PROMPTS = [[5, 9, 5, 9, 5, 9], [7] * 40, list(range(60, 92)), list(range(60, 95))]
DRAFTS = 4
CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0, "logprobs": 2},
    "n": {"seed": 3, "n": 3},
    "filters": {"seed": 4, "temperature": 1.4, "top_k": 20, "top_p": 0.9},
    "penalties": {"seed": 5, "frequency_penalty": 0.5, "repetition_penalty": 1.3},
    "grammar": {
        "seed": 10,
        "structured_outputs": StructuredOutputsParams(regex="(ab|cd|efg){6,12}"),
    },
}


def open_llm(folder: Path, num_kv_tokens: int, head: Path | None = None, **options: Any) -> LLM:
    if head is not None:
        config = {"method": "eagle3", "model": str(head), "num_speculative_tokens": DRAFTS}
        options["speculative_config"] = config
    memory = num_kv_tokens * KV_BYTES_PER_TOKEN
    llm = LLM(str(folder), dtype="float32", device="cpu", kv_cache_memory_bytes=memory, **options)
    assert llm._core is not None
    llm._core._stopwatch = lambda: 0.0  # drafts seem to cost nothing
    return llm


def counts(llm: LLM) -> tuple[int, int]:
    """Drafts that ran since the start, and those that came true."""
    assert llm._core is not None
    stats = llm._core.stats()
    return (
        stats.spec_decode_draft_tokens_total,
        sum(stats.spec_decode_accepted_tokens_per_position),
    )


def told(outputs: Any) -> list[Any]:
    return [(one.token_ids, one.finish_reason) for each in outputs for one in each.outputs]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model with a random head, and one that its head knows to copy."""
    work = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    save_tiny_llama(work / "random", initializer_range=0.1)
    ids = [0, 1]
    ReferenceHead(num_watched=2, draft_vocab_size=100).save(
        work / "random-head", eagle_aux_hidden_state_layer_ids=ids
    )
    model = save_tiny_llama(work / "known", tie_word_embeddings=False)
    without_layers(model)
    model.save_pretrained(work / "known")
    head = copying_head(model)
    head.save(
        work / "known-head", drop=("embed_tokens.weight",), eagle_aux_hidden_state_layer_ids=ids
    )
    return {one.name: one for one in work.iterdir()}


@pytest.fixture(scope="module", params=["random", "known"])
def pair(
    request: pytest.FixtureRequest, folders: dict[str, Path]
) -> Iterator[tuple[str, LLM, LLM]]:
    """An engine without guesses, and one with them that has blocks for about two of the sequences."""
    name: str = request.param
    limits: dict[str, Any] = {"max_model_len": 112, "max_num_batched_tokens": 24, "max_num_seqs": 8}
    with (
        open_llm(folders[name], 4096) as plain,
        open_llm(folders[name], 240, folders[f"{name}-head"], **limits) as guessing,
    ):
        yield name, plain, guessing


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_without_a_head(
    pair: tuple[str, LLM, LLM], case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, plain, guessing = pair
    if name == "random":  # it would soon be asked no more
        monkeypatch.setattr(speculation, "choose_counts", lambda shares, lengths, *_: lengths)
    params = SamplingParams(**{"max_tokens": 40, "ignore_eos": case != "grammar"} | CASES[case])
    before = counts(guessing)
    assert told(guessing.generate(PROMPTS, params)) == told(plain.generate(PROMPTS, params))
    tried, accepted = (b - a for a, b in zip(before, counts(guessing), strict=True))
    if name == "known" and case not in ("penalties", "grammar"):  # it knows of none
        assert accepted >= max(50, 0.99 * tried)
    elif name == "random":
        assert tried > accepted
    assert guessing._core is not None
    assert case == "grammar" or guessing._core.stats().preemptions_total > 0


@pytest.mark.parametrize("name", ["random", "known"])
def test_on_the_path_of_a_gpu_a_head_changes_no_answer(folders: dict[str, Path], name: str) -> None:
    """Which has CUDA graphs, sequences that lose their blocks, and steps without guesses between. Asleep
    nothing of the head is left on the device, and awake it guesses as before."""
    limits: dict[str, Any] = {"max_model_len": 112, "max_num_batched_tokens": 24, "max_num_seqs": 8}
    limits["enable_sleep_mode"] = True
    with (
        open_llm(folders[name], 4096) as plain,
        started_as_on_gpus(warms_up=True),
        open_llm(folders[name], 240, folders[f"{name}-head"], **limits) as guessing,
    ):
        core: Any = guessing._core
        inner = core._speculation
        cases = ("greedy", "n") if name == "known" else ("filters", "grammar")
        for case, level in zip(cases, SleepLevel, strict=True):
            assert_sleeps_whole(core, level)
            params = SamplingParams(
                **{"max_tokens": 24, "ignore_eos": case != "grammar"} | CASES[case]
            )
            core._speculation = Late(inner, after=10)
            before = counts(guessing)
            assert told(guessing.generate(PROMPTS, params)) == told(plain.generate(PROMPTS, params))
            tried, accepted = (b - a for a, b in zip(before, counts(guessing), strict=True))
            if name == "known":
                assert accepted >= max(30, 0.99 * tried)
            else:
                assert tried > accepted or case == "grammar"
        assert name == "random" or core.stats().preemptions_total > 0


def assert_sleeps_whole(core: Any, level: SleepLevel) -> None:
    """And wakes again."""
    loaded = core._executor._loaded._model
    weights = [one for one in storages_of(loaded) if one.resizable()]
    head = storages_of(loaded.drafting.make)
    assert {one.data_ptr() for one in head} <= {one.data_ptr() for one in storages_of(loaded)}
    core.sleep(level)
    if level is SleepLevel.KEEP_WEIGHTS:
        assert sum(one.nbytes() for one in weights) == 0
    core.wake_up()


def test_a_head_that_guesses_some_tokens_alone_is_right_about_those(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folders["known"])
    ids = [0, 1]
    copying_head(model, draft_vocab_size=200).save(tmp_path, eagle_aux_hidden_state_layer_ids=ids)
    params = SamplingParams(seed=1, max_tokens=60, ignore_eos=True)
    with (
        open_llm(folders["known"], 2048, tmp_path) as llm,
        open_llm(folders["known"], 2048) as plain,
    ):
        assert told(llm.generate(PROMPTS, params)) == told(plain.generate(PROMPTS, params))
        tried, accepted = counts(llm)
        assert 0.3 * tried < accepted < tried


@pytest.mark.parametrize("path", [nullcontext, started_as_on_gpus])
def test_a_head_has_read_all_that_the_model_has(
    folders: dict[str, Path],
    path: Callable[[], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cached answers, one that was guessed and one that was not; and of its own answer more than waits,
    before anybody asks. It guesses then as where it was asked all the time."""
    monkeypatch.setattr(speculation, "choose_counts", lambda shares, lengths, *_: lengths)
    monkeypatch.setattr(eagle, "_MOST_WAITING", 16)
    params = SamplingParams(temperature=0.0, max_tokens=29, ignore_eos=True)
    longer = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    chat = list(range(60, 80))
    with path(), open_llm(folders["random"], 512, folders["random-head"]) as llm:
        core: Any = llm._core
        inner = core._speculation
        for guessing in (inner, None):
            core._speculation = guessing
            [answer] = llm.generate([chat], params)
            chat += [*answer.outputs[0].token_ids, 5, 6, 7]
        core._speculation = Late(inner, after=25)
        assert counts(llm)[0] > 0
        late = guesses_of(llm)
        [last] = llm.generate([chat], longer)
        assert last.num_cached_tokens == 80 == len(chat) - 4
    with path(), open_llm(folders["random"], 512, folders["random-head"]) as llm:
        always = guesses_of(llm)
        assert told(llm.generate([chat], longer)) == told([last])
    common = late.keys() & always.keys()
    assert len(common) > 20
    for place in common:
        assert all(a == b for a, b in zip(late[place], always[place], strict=False))


def test_a_head_that_saw_nothing_for_a_while_begins_where_it_sees(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amid an answer, and behind blocks that it never saw: in blocks of any size it guesses the same, and
    what the model says stays."""
    monkeypatch.setattr(speculation, "choose_counts", lambda shares, lengths, *_: lengths)
    params = SamplingParams(temperature=0.0, max_tokens=45, ignore_eos=True)
    found: list[tuple[list[Any], dict[int, list[int]]]] = []
    chat = list(range(60, 80))
    for block_size in (8, 32):
        options = {"block_size": block_size}
        with open_llm(folders["random"], 512, folders["random-head"], **options) as llm:
            core: Any = llm._core
            inner = core._speculation
            core._speculation = Late(inner, after=30, unseen=25)
            amid = guesses_of(llm)
            first = llm.generate([chat], params)
            assert min(amid) >= len(chat) + 25
            longer = [*chat, *first[0].outputs[0].token_ids, 5, 6]
            core._speculation = inner
            behind = guesses_of(llm)
            second = llm.generate([longer], params)
            assert second[0].num_cached_tokens == 64
            found.append((told(first + second), amid | behind))
    (answers, small), (others, large) = found
    assert answers == others
    common = small.keys() & large.keys()
    assert len(common) > 20
    for place in common:
        assert all(a == b for a, b in zip(small[place], large[place], strict=False))


def guesses_of(llm: LLM) -> dict[int, list[int]]:
    """By their first position, of the only sequence from now on."""
    core: Any = llm._core
    executor = core._executor
    drafter = executor._loaded.runner.drafter
    propose, found = drafter.propose, dict[int, list[int]]()

    def watched(entries: Any) -> Any:
        proposed = propose(entries)
        found.update({one.start: list(one.token_ids[1:]) for one in proposed if one.num_drafts})
        return proposed

    drafter.propose = watched
    return found


class Late:
    """Speculation that proposes nothing for so many steps.

    Args:
        unseen: Steps that nobody sees, the first ones.
    """

    def __init__(self, inner: Any, after: int, unseen: int = 0) -> None:
        self._inner = inner
        self._left = after
        self._num_unseen = unseen

    @property
    def is_followed(self) -> bool:
        self._num_unseen -= 1
        return self._num_unseen < 0

    def propose(self, sequences: Any) -> Any:
        self._left -= 1
        return {} if self._left > 0 else self._inner.propose(sequences)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("path", [nullcontext, started_as_on_gpus])
def test_adapters_say_the_same_with_a_head(
    folders: dict[str, Path], tmp_path: Path, path: Callable[[], AbstractContextManager[None]]
) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(folders["random"])
    adapters = [LoRARequest(name, i, str(tmp_path / name)) for i, name in ((1, "a"), (2, "b"))]
    for one in adapters:
        save_adapter(Path(one.lora_path), model, seed=one.lora_int_id, lora_alpha=0.5)
    options: dict[str, Any] = {"enable_lora": True, "max_loras": 2}
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    wanted = [None, *adapters] * len(PROMPTS)
    params = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
    with (
        open_llm(folders["random"], 2048, **options) as plain,
        path(),
        open_llm(folders["random"], 2048, folders["random-head"], **options) as llm,
    ):
        expected = told(plain.generate(prompts, params, lora_request=wanted))
        assert told(llm.generate(prompts, params, lora_request=wanted)) == expected
        assert counts(llm)[0] > 0


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({"vocab_size": 300}, {}, r"another vocabulary \(vocab_size\): its config.json says 300"),
        (
            {"hidden_size": 32},
            {},
            r"another width .*: its config.json says 32, and the model has 64",
        ),
        ({}, {"model_impl": "transformers"}, "hidden states are not read"),
    ],
)
def test_a_head_that_is_not_the_models_is_refused(
    folders: dict[str, Path],
    tmp_path: Path,
    sizes: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    head = ReferenceHead(num_watched=2, **sizes)
    head.save(tmp_path, eagle_aux_hidden_state_layer_ids=[0, 1])
    with pytest.raises(InvalidConfigurationError, match=message):
        open_llm(folders["random"], 320, tmp_path, **options)


def test_a_head_that_is_called_a_draft_model_is_told_its_method(
    folders: dict[str, Path],
) -> None:
    config = {"method": "draft_model", "model": str(folders["random-head"])}
    with pytest.raises(InvalidConfigurationError, match=r"is an EAGLE-3 head.* Use method eagle3"):
        open_llm(folders["random"], 320, speculative_config=config)


def test_errors_of_a_head_name_it(folders: dict[str, Path], tmp_path: Path) -> None:
    head = ReferenceHead(num_watched=2)
    head.save(tmp_path, drop=("norm.weight",), eagle_aux_hidden_state_layer_ids=[0, 1])
    with pytest.raises(
        ModelInvalidError, match=f"The EAGLE-3 head in {tmp_path}: .*norm.weight is missing"
    ):
        open_llm(folders["random"], 320, tmp_path)


def test_a_head_of_fewer_positions_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    head = ReferenceHead(num_watched=2, max_position_embeddings=128)
    head.save(tmp_path, eagle_aux_hidden_state_layer_ids=[0, 1])
    with pytest.raises(
        InvalidConfigurationError, match=r"knows 128 positions .*max_model_len is 256"
    ):
        open_llm(folders["random"], 1024, tmp_path)
    with open_llm(folders["random"], 1024, tmp_path, max_model_len=128) as llm:
        assert llm.max_model_len == 128
