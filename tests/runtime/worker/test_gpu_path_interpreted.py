"""The execution path of a GPU with its own Triton kernels, interpreted: end to end on one small model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference import device as reference
from octavo.sampling_params import SamplingParams

from ..checkpoints import make_checkpoint  # noqa: TID252 (rootdir is not importable)
from ..kernels.interpreter import interpreted_kernels  # noqa: TID252
from .gpu_path import Overlapped, Running, make_gpu_executor


@pytest.mark.parametrize(
    ("family", "changes", "cache_dtype"),
    [
        ("qwen3", {}, torch.float32),
        ("qwen3", {}, torch.float8_e4m3fn),
        ("mixtral", {"num_local_experts": 3}, torch.float32),
    ],
)
def test_triton_and_reference_kernels_give_the_same_tokens(
    tmp_path: Path, family: str, changes: dict[str, int], cache_dtype: torch.dtype
) -> None:
    torch.set_num_threads(1)
    make_checkpoint(
        tmp_path,
        family,
        num_hidden_layers=2,
        head_dim=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        **changes,
    )
    drawn = SamplingParams(
        temperature=0.8, top_p=0.9, top_k=30, presence_penalty=0.5, logprobs=2, max_tokens=None
    )

    def run(executor: object) -> list[Running]:
        steps = Overlapped(executor)
        a, b, c = running = [
            Running(0, list(range(3, 22))),
            Running(1, [50, 51]),
            Running(2, list(range(60, 71)), drawn, 7),
        ]
        steps.submit([(a, 12), (b, 2)])
        steps.submit([(b, 1), (a, 7), (c, 11)])
        for _ in range(3):
            steps.submit([(a, 1), (b, 1), (c, 1)])
        steps.take()
        return running

    with interpreted_kernels():
        ours = run(
            make_gpu_executor(tmp_path, kernels=gpu, cache_dtype=cache_dtype, max_num_seqs=4)
        )
    theirs = run(make_gpu_executor(tmp_path, kernels=reference, cache_dtype=cache_dtype))
    for own, expected in zip(ours, theirs, strict=True):
        assert own.output == expected.output
        assert [t.top_token_ids for t in own.tokens] == [t.top_token_ids for t in expected.tokens]
