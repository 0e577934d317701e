"""Models of published sizes on the execution path of a GPU: each launch gives what the reference gives.

What a kernel compiles to depends on the sizes of a model: here they are those that serving has, and the PTX
runs on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.loading.dummy import DummyWeights
from octavo.sampling_params import SamplingParams
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from tests.support.kernels.kept_binaries import kept_binaries
from tests.support.ptx_emulator.launch import emulated_launches
from tests.support.runtime.compared_kernels import Comparison, compared_kernels
from tests.support.runtime.gpu_path import CPU, Overlapped, Running, make_gpu_executor
from tests.support.runtime.gpu_shapes import SHAPES, SMOLLM_135M, shape_of
from tests.support.runtime.two_layer_models import BF16, FP8, GREEDY

# After a change of Triton or of the kernels everything is compiled.
pytestmark = pytest.mark.timeout(1200)

MODELS = {**SHAPES, "smollm-135m": SMOLLM_135M}
MAX_SEQS = 6
DRAWN = SamplingParams(temperature=1.0, logprobs=4, max_tokens=None)
FILTERED = SamplingParams(
    temperature=0.8,
    top_p=0.9,
    top_k=30,
    presence_penalty=0.5,
    repetition_penalty=1.1,
    logprobs=4,
    max_tokens=None,
)

minutes = pytest.mark.skipif(
    os.environ.get("OCTAVO_PUBLISHED_SHAPES") != "1",
    reason="minutes of work: OCTAVO_PUBLISHED_SHAPES=1 runs it",
)


class RandomWeights(DummyWeights):
    """Norms and biases differ from place to place, too."""

    def _make(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if not name.endswith(("norm.weight", ".bias")):
            return super()._make(name, shape)
        drawn = 5 * super()._make(f"{name}, drawn", shape)
        return drawn + 1 if name.endswith("norm.weight") else drawn


def serve(executor: Any, vocab: int) -> None:
    """Chunks, decodes and both of them in a step; one row and several; contexts of one piece and of more."""
    steps = Overlapped(executor)

    def prompt(length: int) -> list[int]:
        return torch.randint(vocab, (length,), generator=generator).tolist()

    generator = torch.Generator().manual_seed(0)
    a, b, c, d = (
        Running(0, prompt(150), GREEDY),
        Running(1, prompt(2), DRAWN, 3),
        Running(2, prompt(37), FILTERED, 7),
        Running(3, prompt(5), DRAWN, 5),
    )
    steps.submit([(a, 130), (b, 2)])
    steps.submit([(b, 1), (a, 20), (c, 37)])
    steps.submit([(a, 1), (b, 1), (c, 1)])
    steps.submit([(a, 1), (b, 1), (c, 1), (d, 5)])
    steps.submit([(a, 1), (b, 1), (c, 1), (d, 1)])
    steps.submit([(a, 1)])
    steps.take()
    others = [
        Running(10 + index, prompt(3), (GREEDY, DRAWN, FILTERED)[index % 3], index)
        for index in range(MAX_SEQS - 4)
    ]
    steps.submit([(other, 3) for other in others])
    steps.submit([(sequence, 1) for sequence in (a, b, c, d, *others)])
    steps.take()


def case(model: str, capability: int, dtype: torch.dtype = BF16, **changes: int) -> Any:
    """Two layers of a model; `changes` keep the forms that its kernels have, or make them rarer ones."""
    name = f"{model}-sm{capability}" + ("-fp8" if dtype is FP8 else "")
    marks = () if (model, capability) == ("smollm-135m", 90) else minutes
    return pytest.param(model, capability, dtype, changes, id=name, marks=marks)


@pytest.mark.parametrize(
    ("model", "capability", "cache_dtype", "changes"),
    [
        case("smollm-135m", 80),
        case("smollm-135m", 90),
        case("qwen3-0.6b", 80),
        case("qwen3-0.6b", 90, FP8),
        case("llama-3.1-8b", 80),
        case("llama-3.1-8b", 90, FP8),
        case("mixtral-8x7b", 80, vocab_size=32001, intermediate_size=512),
        case("mixtral-8x7b", 90, vocab_size=32002, intermediate_size=512),
        case("gemma-2-9b", 80, sliding_window=64),
        case("gemma-2-9b", 90, sliding_window=64),
    ],
)
def test_each_launch_gives_what_the_reference_gives(
    tmp_path: Path,
    model: str,
    capability: int,
    cache_dtype: torch.dtype,
    changes: Mapping[str, int],
) -> None:
    torch.set_num_threads(1)
    shape = shape_of({**MODELS[model], "num_hidden_layers": 2, **changes}, tmp_path)
    comparison = Comparison()
    with kept_binaries(), emulated_launches(capability) as launches:
        executor = make_gpu_executor(
            tmp_path,
            weights=RandomWeights(dtype=BF16, device=CPU, seed=0),
            kernels=compared_kernels(comparison),
            dtype=BF16,
            cache_dtype=cache_dtype,
            max_num_seqs=MAX_SEQS,
        )
        serve(executor, shape.spec.vocab_size)
    assert comparison.differences == []
    assert {"paged_prefill", "paged_decode", "sample", "top_logprobs"} <= comparison.calls.keys()
    assert {"_prefill", "_decode", "_scan", "_finish", "_own_logprob"} <= launches.kernels.keys()
