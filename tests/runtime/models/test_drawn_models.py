"""Models that were drawn, through the whole engine: prompt chunks, decodes, and prefixes of the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from octavo.models.registry import FAMILIES as ARCHITECTURES
from octavo.worker.batch import Executor
from tests.support.runtime.drawn_models import COUNT, FAMILIES, drawn_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor


def on_cpu(folder: Path, dtype: torch.dtype) -> Executor:
    return make_executor(folder, dtype=str(dtype).removeprefix("torch."))


def on_gpu_path(folder: Path, dtype: torch.dtype) -> Executor:
    # As many as `serve` has at a time: each size of a decode step is run when the executor starts.
    return make_gpu_executor(folder, dtype=dtype, max_num_seqs=5)


PATHS = {"cpu": on_cpu, "gpu-path": on_gpu_path}
# The GPU's path has the reference's kernels here, so one model shows that it keeps the dtype.
NUM_ROUNDED = {"cpu": COUNT, "gpu-path": max(COUNT - 1, 1)}
MODELS = [
    pytest.param(family, number, id=f"{family}-{number}")
    for family, number in itertools.product(sorted(FAMILIES), range(COUNT))
]


def test_every_family_is_drawn() -> None:
    drawn = {family.replace("_", "") for family in FAMILIES}
    assert drawn == {name.removesuffix("ForCausalLM").lower() for name in ARCHITECTURES}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("family", "number"), MODELS)
def test_tokens_and_their_probabilities_are_those_of_transformers(
    family: str, number: int, path: Callable[..., Executor], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    model = drawn_checkpoint(tmp_path, family, number)
    answers = serve(tmp_path, path(tmp_path, torch.float32), model.config.vocab_size)
    assert_as_transformers(answers, model)
    assert len({token for answer in answers for token in answer.output}) > 8


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_bfloat16_errs_as_little_as_transformers(family: str, path: str, tmp_path: Path) -> None:
    """Measured by what transformers computes in float32 with the same rounded weights. The median counts: of
    two experts that are nearly equal a rounding picks one, and what follows is far off."""
    torch.set_num_threads(1)
    own, theirs = [], []
    for number in range(NUM_ROUNDED[path]):
        folder = tmp_path / str(number)
        exact = drawn_checkpoint(folder, family, number)
        with torch.no_grad():
            for parameter in exact.parameters():
                parameter.copy_(parameter.bfloat16())
        rounded = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16,
            attn_implementation=exact.config._attn_implementation,
        )
        for answer in serve(folder, PATHS[path](folder, torch.bfloat16), exact.config.vocab_size):
            true, other = answer.expected(exact), answer.expected(rounded)
            for place, found in enumerate(answer.logprobs):
                ids = found.token_ids
                own.append(torch.tensor(found.logprobs) - true[place, ids])
                theirs.append(other[place, ids] - true[place, ids])
    assert middle(own) < 1.5 * middle(theirs)


def middle(errors: list[torch.Tensor]) -> float:
    return torch.cat(errors).abs().median().item()
