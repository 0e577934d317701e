"""Windows, capped scores and experts take the GPU's path with the tokens that transformers gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ..checkpoints import make_checkpoint  # noqa: TID252 (rootdir is not importable)
from .gpu_path import Overlapped, make_gpu_executor
from .test_executor_against_transformers import GEMMA2
from .test_gpu_path import greedy, sequences

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", GEMMA2),
    "mistral-window": ("mistral", {"sliding_window": 23}),
    "mixtral": ("mixtral", {"num_local_experts": 5}),
}


@pytest.mark.parametrize("name", MODELS)
def test_ragged_chunks_and_pending_decodes_give_the_tokens_of_transformers(
    name: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    family, changes = MODELS[name]
    reference = make_checkpoint(tmp_path, family, **changes)
    steps = Overlapped(make_gpu_executor(tmp_path))
    a, b, c = running = sequences(1, 16, 60)
    steps.submit([(a, 1), (c, 33)])
    steps.submit([(c, 27), (a, 1), (b, 16)])
    for _ in range(16):
        steps.submit([(s, 1) for s in running])
    steps.take()
    for sequence in running:
        assert sequence.output == greedy(reference, sequence)
        assert len(set(sequence.output)) > 3, "a constant output would prove nothing"
