from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from octavo import LLM
from tests.support.runtime.llm_on_llama import LENGTHS, Model, make_llm


@pytest.fixture(scope="module")
def model(tiny_llama: Any) -> Model:
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(1, 250, (n,), generator=generator).tolist() for n in LENGTHS]
    expected = [tiny_llama.greedy(prompt, 24) for prompt in prompts]
    return Model(tiny_llama.folder, tiny_llama.reference, prompts, expected)


@pytest.fixture(scope="module")
def llm(model: Model) -> Iterator[LLM]:
    with make_llm(model) as llm:
        yield llm
