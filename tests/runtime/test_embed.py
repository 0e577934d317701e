"""`LLM.embed` against the hidden states of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM
from octavo.errors import (
    InvalidParameterError,
    ModelInvalidError,
    ModelUnsupportedError,
)
from octavo.loading.pooling import check_last_token
from octavo.loading.text_options import TextOptions, read_text_options
from octavo.sampling.state import SamplingState
from octavo.worker.batch import ScheduledSequence, StepBatch
from tests.support.runtime.checkpoints import make_checkpoint, save_word_tokenizer
from tests.support.runtime.encoders import write_modules
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import GREEDY


@pytest.fixture(scope="module")
def llm(tiny_llama: Any) -> LLM:
    # Steps of 8 tokens: the longer prompts come in chunks, beside the shorter ones.
    return LLM(
        str(tiny_llama.folder),
        dtype="float32",
        kv_cache_memory_bytes=4 * 2**20,
        max_num_seqs=4,
        max_num_batched_tokens=8,
    )


def test_embeddings_are_the_last_hidden_states_of_transformers(llm: LLM, tiny_llama: Any) -> None:
    prompts = [[5, 6, 7], list(range(3, 40)), [9], list(range(60, 80))]
    outputs = llm.embed(prompts)
    assert [output.prompt_token_ids for output in outputs] == prompts
    for prompt, output in zip(prompts, outputs, strict=True):
        with torch.no_grad():
            hidden = tiny_llama.reference.model(torch.tensor([prompt])).last_hidden_state[0, -1]
        expected = hidden / hidden.norm()
        torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)


def test_texts_are_tokenized_and_nothing_stays_in_the_cache(llm: LLM) -> None:
    (output,) = llm.embed("hello")
    assert output.prompt_token_ids == llm.get_tokenizer().encode("hello")
    assert llm.stats.kv_blocks_used == 0


def test_a_prompt_that_is_too_long_is_refused(llm: LLM) -> None:
    with pytest.raises(InvalidParameterError, match="300 tokens"):
        llm.embed([[1] * 300])
    assert not llm.stats.num_waiting


@pytest.mark.parametrize(
    ("pooling", "more", "words"),
    [
        ({"pooling_mode_mean_tokens": True}, [], "pooling_mode is mean_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_lasttoken": False}, [], "cls_token"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True},
            [],
            "mean_tokens and lasttoken",
        ),
        ({"pooling_mode": "geometric"}, [], "geometric"),
        ({"pooling_mode": "weightedmean"}, [], "weightedmean_tokens; implemented for a decoder"),
        ({"pooling_mode": ["lasttoken", "max"]}, [], "lasttoken and max"),
        ({"word_embedding_dimension": 64}, [], "mean_tokens"),
        ({"pooling_mode_lasttoken": True}, ["Dense", "Normalize"], "the step Dense"),
        (
            {"pooling_mode_lasttoken": True},
            ["Normalize", "Pooling"],
            "Normalize, Pooling; implemented",
        ),
    ],
)
def test_an_embedder_that_wants_another_vector_is_refused(
    pooling: object, more: list[str], words: str, tmp_path: Path
) -> None:
    write_modules(tmp_path, pooling, *more)
    with pytest.raises(ModelUnsupportedError, match=words):
        check_last_token(tmp_path)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False, "include_prompt": True},
        {"pooling_mode": "lasttoken"},
    ],
)
def test_embedders_of_the_last_token_are_taken(pooling: object, tmp_path: Path) -> None:
    check_last_token(tmp_path)
    write_modules(tmp_path, pooling, "Normalize")
    check_last_token(tmp_path)
    (tmp_path / "1_Pooling/config.json").write_text("[")
    with pytest.raises(ModelInvalidError, match="1_Pooling"):
        check_last_token(tmp_path)


@pytest.mark.parametrize("steps", [[], ["Normalize"]])
def test_the_folder_says_whether_a_last_tokens_state_has_length_1(
    steps: list[str], tiny_llama: Any, tmp_path: Path
) -> None:
    """Of a decoder with a head; on CPUs, and on the path of a GPU."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama.folder, folder)
    write_modules(folder, {"pooling_mode": "lasttoken"}, *steps)
    prompt = list(range(3, 20))
    with torch.no_grad():
        hidden = tiny_llama.reference.model(torch.tensor([prompt])).last_hidden_state[0, -1]
    expected = hidden / hidden.norm() if steps else hidden
    with LLM(str(folder), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        (output,) = llm.embed([prompt])
    torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)
    state = SamplingState(GREEDY, 0, prompt, [], is_pooled=True)
    whole = ScheduledSequence(1, prompt, 0, [0, 1], state)
    (token,) = make_gpu_executor(folder).submit(StepBatch([whole], [])).result()
    torch.testing.assert_close(torch.tensor(token.embedding), expected, rtol=1e-3, atol=1e-4)


def test_embed_asks_and_generate_does_not(tiny_llama: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama.folder, folder)
    write_modules(folder, {"pooling_mode_mean_tokens": True})
    with LLM(str(folder), kv_cache_memory_bytes=2**22) as mean:
        assert mean.generate([[5, 6]])
        with pytest.raises(ModelUnsupportedError, match=r"1_Pooling/config\.json"):
            mean.embed([[5, 6]])


POOLED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": lambda hidden, places: hidden.sum(0) / len(places),
    "weightedmean": lambda hidden, places: (hidden * places).sum(0) / places.sum(),
    "mean_sqrt_len_tokens": lambda hidden, places: hidden.sum(0) / len(places) ** 0.5,
    "max": lambda hidden, places: hidden.max(0).values,
}


@pytest.mark.parametrize(
    ("mode", "is_normalised"),
    [("mean", True), ("weightedmean", False), ("mean_sqrt_len_tokens", False), ("max", False)],
)
def test_a_decoder_without_a_head_pools_as_its_folder_says(
    mode: str, is_normalised: bool, tmp_path: Path
) -> None:
    """By sentence-transformers' formulas, of transformers' hidden states; a batch of several, and some that
    begin as another: nothing of them may come from the prefix cache."""
    torch.set_num_threads(1)
    model = make_checkpoint(tmp_path, "qwen3").model
    model.save_pretrained(tmp_path)
    save_word_tokenizer(tmp_path)
    write_modules(tmp_path, {"pooling_mode": mode}, *(["Normalize"] if is_normalised else []))
    prompts = [list(range(3, 60)), list(range(3, 59)), [9], list(range(60, 80))]
    with LLM(str(tmp_path), dtype="float32", max_num_seqs=4, max_num_batched_tokens=16) as llm:
        outputs = [*llm.embed(prompts), *llm.embed(prompts[:1])]
    for prompt, output in zip([*prompts, prompts[0]], outputs, strict=True):
        with torch.no_grad():
            hidden = model(torch.tensor([prompt])).last_hidden_state[0]
        expected = POOLED[mode](hidden, torch.arange(1.0, len(prompt) + 1)[:, None])
        if is_normalised:
            expected = expected / expected.norm()
        torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)


def test_the_default_prompt_of_a_folder_stands_before_texts(
    tiny_llama: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama.folder, folder)
    write_modules(folder, {"pooling_mode": "lasttoken"}, "Normalize")
    prompts = {"query": "hello ", "document": ""}
    said = folder / "config_sentence_transformers.json"
    said.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
    with LLM(str(folder), kv_cache_memory_bytes=2**22) as llm:
        (text,) = llm.embed("world")
        (named,) = llm.embed({"prompt": "world"})
        expected = llm.get_tokenizer().encode("hello world")
        assert text.prompt_token_ids == named.prompt_token_ids == expected
        (ids,) = llm.embed([[5, 6]])
        assert ids.prompt_token_ids == [5, 6]
        (bare,) = llm.embed("world", prompt_name="document")
        assert bare.prompt_token_ids == llm.get_tokenizer().encode("world")
        with pytest.raises(InvalidParameterError, match=r"'passage'.*has 'document', 'query'"):
            llm.embed("world", prompt_name="passage")
    assert read_text_options(folder) == TextOptions(default_prompt="hello ", prompts=prompts)
    said.write_text(json.dumps({"prompts": prompts}))
    write_modules(folder, {"pooling_mode": "lasttoken", "include_prompt": False}, "Normalize")
    options = read_text_options(folder)
    assert options.prompt(None) == options.prompt("document") == ""
    with pytest.raises(InvalidParameterError, match="include_prompt is false"):
        options.prompt("query")
    said.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "query"}))
    write_modules(folder, {"pooling_mode": "lasttoken", "include_prompt": False}, "Normalize")
    with pytest.raises(ModelUnsupportedError, match="include_prompt is false"):
        read_text_options(folder)
    said.write_text(json.dumps({"prompts": prompts, "default_prompt_name": "passage"}))
    with pytest.raises(ModelInvalidError, match="default_prompt_name is 'passage'"):
        read_text_options(folder)
