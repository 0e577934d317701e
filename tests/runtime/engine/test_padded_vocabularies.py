"""A draft model whose tables have another number of rows than the model's guesses tokens that both have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import LLM, SamplingParams
from octavo.errors import InvalidConfigurationError
from tests.support.runtime.gpu_engine import started_as_on_gpus
from tests.support.runtime.speculating import DRAFTS, PROMPTS, counts, open_llm, told
from tests.support.runtime.tiny_llama import save_tiny_llama

SIZE, MORE = 261, 24  # rows: of all tokens, and those of none
PATHS = pytest.mark.parametrize("path", [nullcontext, started_as_on_gpus], ids=["cpu", "gpu"])
Entering = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, and itself with more rows, which have no tokens: as they are they would often be guessed."""
    work = tmp_path_factory.mktemp("models")
    model = save_tiny_llama(work / "few", tie_word_embeddings=False)
    more = save_tiny_llama(work / "more", tie_word_embeddings=False, vocab_size=SIZE + MORE)
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    with torch.no_grad():
        padded = dict(more.named_parameters())
        for name, weight in model.named_parameters():
            padded[name][:SIZE].copy_(weight) if name in tables else padded[name].copy_(weight)
    more.save_pretrained(work / "more")
    return {one.name: one for one in work.iterdir()}


def answers(
    folder: Path, draft: Path | None, params: SamplingParams, prompts: list[list[int]] = PROMPTS
) -> tuple[list[Any], tuple[int, int]]:
    """And how many guesses were made, and came true."""
    options: dict[str, Any] = {}
    if draft is not None:
        options["speculative_config"] = {
            "method": "draft_model",
            "model": str(draft),
            "num_speculative_tokens": DRAFTS,
        }
    with open_llm(folder, 1024, **options) as llm:
        _free(llm)
        return told(llm.generate(prompts, params)), counts(llm)


def _free(llm: LLM) -> None:
    """Guesses seem to cost nothing."""
    assert llm._core is not None
    llm._core._stopwatch = lambda: 0.0


@pytest.mark.parametrize(
    ("path", "seed"), [(nullcontext, None), (nullcontext, 3), (started_as_on_gpus, 3)]
)
def test_rows_that_the_model_has_not_are_never_guessed(
    folders: dict[str, Path], path: Entering, seed: int | None
) -> None:
    """The draft model is the model, with more rows: it is right about all that follows from those of both."""
    params = SamplingParams(
        temperature=0.0 if seed is None else 1.0, seed=seed, max_tokens=24, ignore_eos=True
    )
    expected, _ = answers(folders["few"], None, params)
    with path():
        found, (tried, accepted) = answers(folders["few"], folders["more"], params)
    assert found == expected
    assert accepted >= max(40, 0.99 * tried)


@PATHS
def test_tokens_that_the_draft_model_has_not_are_answered_and_read_all_the_same(
    folders: dict[str, Path], path: Entering
) -> None:
    """By the model, in prompts and in answers."""
    params = SamplingParams(seed=3, max_tokens=32, ignore_eos=True)
    prompts = [*PROMPTS, [5, SIZE + 3, 9, SIZE + 5] * 4]
    expected, _ = answers(folders["more"], None, params, prompts)
    assert any(token >= SIZE for ids, *_ in expected[: len(prompts)] for token in ids)
    with path():
        found, (tried, accepted) = answers(folders["more"], folders["few"], params, prompts)
    assert found == expected
    assert 10 < accepted < tried


def test_without_a_tokenizer_nobody_knows_which_rows_are_tokens(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["more"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(
        InvalidConfigurationError, match=r"vocab_size\) \d+, and the model's \d+, while .* holds no"
    ):
        answers(folders["few"], tmp_path, SamplingParams())
