"""The execution path of a GPU with its own Triton kernels, interpreted: end to end on small models."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
import transformers

from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from octavo.kernels.reference import device as reference
from tests.support.kernels.interpreter import interpreted_kernels
from tests.support.runtime.gpu_path import Running
from tests.support.runtime.two_layer_models import (
    BF16,
    MIXTRAL,
    checkpoint,
    errors,
    executor,
    log_probabilities,
    mean_size,
    run,
)


def run_interpreted(folder: Path, dtype: torch.dtype, cache_dtype: torch.dtype) -> list[Running]:
    # Of an H100's programs most would find nothing to do.
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        return run(executor(folder, gpu, dtype, cache_dtype))


@pytest.mark.parametrize(("family", "changes"), [("qwen3", {}), MIXTRAL], ids=["qwen3", "mixtral"])
def test_triton_and_reference_kernels_give_the_same_tokens(
    tmp_path: Path, family: str, changes: dict[str, int]
) -> None:
    checkpoint(tmp_path, family, changes)
    ours = run_interpreted(tmp_path, torch.float32, torch.float32)
    theirs = run(executor(tmp_path, reference, torch.float32, torch.float32))
    for own, expected in zip(ours, theirs, strict=True):
        assert own.output == expected.output
        assert [t.top_token_ids for t in own.tokens] == [t.top_token_ids for t in expected.tokens]


def test_bfloat16_errs_as_little_as_transformers(tmp_path: Path) -> None:
    """Measured by what transformers computes in float32 with the same rounded weights. A float8 cache and
    experts: see `test_gpu_path_compiled.py`."""
    exact = checkpoint(tmp_path, "qwen3", {})
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.to(BF16))
    rounded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=BF16, attn_implementation="eager"
    )

    ours = run_interpreted(tmp_path, BF16, BF16)

    own = errors(ours, exact)
    # Roundings fall one way or the other: two such computations differ by a tenth or two.
    assert mean_size(own) < 1.5 * mean_size(errors(ours, exact, rounded))
    for sequence in ours[:2]:
        chosen = torch.tensor(sequence.output)[:, None]
        true = log_probabilities(exact, sequence)
        behind = true.max(dim=1).values - true.gather(1, chosen)[:, 0]
        assert behind.max() <= 2 * own.abs().max(), "a token that is far from the best"
