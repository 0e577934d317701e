"""What several of the runtime's tests start from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.worker import machine
from tests.support.runtime.tiny_llama import save_tiny_llama

# Every engine that a test starts, in this process or another, checks its accounts when it gets idle.
os.environ["OCTAVO_DEBUG"] = "1"


@pytest.fixture(scope="session", autouse=True)
def free_memory() -> Iterator[None]:
    """The same for every engine of the tests' processes, whatever else runs: its cache has one size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "available_memory_bytes", lambda: 2**30)
        yield


@dataclass(frozen=True)
class TinyLlama:
    """A model folder, and the same model in transformers."""

    folder: Path
    reference: Any

    def greedy(self, prompt: list[int], max_new_tokens: int, ignore_eos: bool = False) -> list[int]:
        """What transformers generates for one prompt alone."""
        generation = {"eos_token_id": None} if ignore_eos else {}
        output = self.reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=0,
            **generation,
        )
        tokens: list[int] = output[0, len(prompt) :].tolist()
        return tokens


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> TinyLlama:
    folder = tmp_path_factory.mktemp("tiny-llama")
    return TinyLlama(folder, save_tiny_llama(folder))
