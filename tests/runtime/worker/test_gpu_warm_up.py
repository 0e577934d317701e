"""What runs on a GPU before any request, so that none waits for a compiler."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from octavo.kernels.gpu.tuning.attention import prefill_config
from octavo.kernels.reference import device as reference
from octavo.worker.batch import StepBatch
from octavo.worker.gpu.profile import step_sizes, warm_up_gpu
from octavo.worker.gpu.readback import PendingSamples
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor


@pytest.mark.parametrize(("max_num_seqs", "most"), [(16, 512), (1, 255)])
def test_experts_run_every_power_of_two_that_a_step_can_hold(
    tmp_path: Path, max_num_seqs: int, most: int
) -> None:
    """Steps of up to 512 tokens, of which one sequence has 255 at most."""
    torch.set_num_threads(1)
    make_checkpoint(tmp_path, "mixtral", num_hidden_layers=1)
    sizes: set[int] = set()

    def route(logits: torch.Tensor, *args: Any, **named: Any) -> Any:
        sizes.add(len(logits))
        return reference.route_to_experts(logits, *args, **named)

    kernels: Any = SimpleNamespace(
        **{name: getattr(reference, name) for name in reference.__all__}
        | {"route_to_experts": route}
    )
    executor = make_gpu_executor(
        tmp_path, kernels=kernels, max_num_seqs=max_num_seqs, is_padded=False
    )
    warm_up_gpu(executor.runner)

    def rounded(tokens: int) -> int:
        return (tokens - 1).bit_length()

    assert {rounded(size) for size in sizes} == {rounded(n) for n in range(1, most + 1)}
    assert executor.runner.rows.num_used == 0


@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("group", [1, 3, 7, 32])
def test_every_length_of_a_prompt_takes_the_kernel_of_one_that_runs(
    capability: int, dtype: torch.dtype, head_dim: int, group: int
) -> None:
    def kernel(length: int) -> object:
        return prefill_config(capability, head_dim, dtype, dtype, length * group)

    for longest in (2, 3, 100, 300):
        warmed = {kernel(length) for length in step_sizes(longest) if length > 1}
        assert {kernel(length) for length in range(2, longest + 1)} == warmed


def test_prompts_run_alone_and_beside_a_decode_and_the_largest_steps_last(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path, num_hidden_layers=1)
    runner = make_gpu_executor(tmp_path, is_padded=False).runner
    steps: list[list[int]] = []
    submit = runner.submit

    def record(batch: StepBatch) -> PendingSamples:
        if batch.entries:
            steps.append([len(entry.token_ids) for entry in batch.entries])
        return submit(batch)

    runner.submit = record  # type: ignore[method-assign]
    warm_up_gpu(runner)
    for tokens in (2, 64):
        assert [tokens] in steps
        assert [1, tokens] in steps
    assert [sum(step) for step in steps[-2:]] == [16, 512]
    assert runner.rows.num_used == 0


@pytest.mark.parametrize("most", [1, 2, 3, 8, 9])
def test_the_most_tokens_of_a_step_are_among_its_sizes(most: int) -> None:
    sizes = step_sizes(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)
