"""Every family in every form of weights, through the whole engine: mixed steps, prompts in chunks, cached
prefixes. What it says is what transformers says of the weights that are stood for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.models.registry import FAMILIES
from tests.support.requirements import Requirement, needs_module
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor
from tests.support.runtime.weight_matrix import (
    BEGIN,
    END,
    NATIVE,
    PAGE,
    VOCAB,
    Cell,
    make_cell,
    make_plain,
    table,
    tried_here,
)

needs_module(Requirement.NUMBA)

# Of bfloat16's logits, whose last digit is a hundredth of what random models say.
_NEAR = 0.1


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of plain checkpoints, each made when it is first asked for."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("plain")

    class Made(dict[str, Path]):
        def __missing__(self, model_type: str) -> Path:
            make_plain(root / model_type, model_type)
            self[model_type] = root / model_type
            return self[model_type]

    return Made()


@pytest.mark.parametrize("cell", tried_here(), ids=str)
def test_a_cell_says_what_transformers_does(
    cell: Cell, plain: dict[str, Path], tmp_path: Path
) -> None:
    folder, model = make_cell(plain[cell.model_type], cell, tmp_path / "stored")
    executor = make_executor(
        folder,
        dtype=cell.form.dtype,
        quantization=cell.form.rounding,
        model_impl=cell.implementation,
    )
    answers = serve(folder, executor, VOCAB)
    if cell.form.dtype == "float32":
        assert_as_transformers(answers, model)
    else:
        assert typical_error(answers, model) < _NEAR


def typical_error(answers: list[Any], model: Any) -> float:
    """Of the log-probabilities that the answers tell, the median."""
    errors = []
    for answer in answers:
        expected = answer.expected(model)
        for place, found in enumerate(answer.logprobs):
            ours = torch.tensor(found.logprobs)
            errors.append((ours - expected[place, found.token_ids]).abs())
    return float(torch.cat(errors).median())


def test_every_registered_family_is_in_the_matrix() -> None:
    """What transformers has under another name alone has the same reader."""
    own = [FAMILIES[name] for name in NATIVE]
    assert all(FAMILIES[name] in own for name in FAMILIES)


def test_the_page_shows_the_matrix() -> None:
    shown = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    assert shown.strip() == table(), "run `make models`"
