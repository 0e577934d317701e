"""The execution path of a GPU with the PTX that its kernels compile to, run on the CPU.

As `test_gpu_path_interpreted.py`, one step further down: strides, alignments and forms of launches are those
of serving, and what the compiler made of each kernel is what runs.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

from octavo.kernels.reference import device as reference
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from tests.support.kernels.kept_binaries import kept_binaries
from tests.support.ptx_emulator.launch import emulated_launches
from tests.support.runtime.two_layer_models import (
    BF16,
    FP8,
    MIXTRAL,
    checkpoint,
    errors,
    executor,
    mean_size,
    run,
)

# After a change of Triton or of the kernels everything is compiled.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize(
    ("capability", "family", "changes", "cache_dtype"),
    [(80, "qwen3", {}, BF16), (90, "qwen3", {}, FP8), (90, *MIXTRAL, BF16)],
    ids=["sm80-qwen3", "sm90-qwen3-fp8", "sm90-mixtral"],
)
def test_compiled_kernels_err_as_little_as_the_references(
    tmp_path: Path, capability: int, family: str, changes: dict[str, int], cache_dtype: torch.dtype
) -> None:
    exact = checkpoint(tmp_path, family, changes)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.to(BF16))
    # Of an H100's programs most would find nothing to do.
    with (
        kept_binaries(),
        emulated_launches(capability) as launches,
        mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8),
    ):
        ours = run(executor(tmp_path, gpu, BF16, cache_dtype))
    theirs = run(executor(tmp_path, reference, BF16, cache_dtype))

    # Roundings fall one way or the other: two such computations differ by a tenth or two.
    assert mean_size(errors(ours, exact)) < 1.5 * mean_size(errors(theirs, exact))
    assert {"_prefill", "_decode", "_scan", "_finish", "_own_logprob"} <= launches.kernels.keys()
