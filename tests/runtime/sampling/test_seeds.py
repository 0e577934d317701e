"""Seeded requests on a model: the same tokens on host and device, together and alone."""

from __future__ import annotations

from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.engine.core import EngineCore
from octavo.engine.messages import AddRequest
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import Executor
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import make_gpu_executor
from tests.support.runtime.stepping import make_executor

REQUESTS = [
    AddRequest(
        str(number),
        [5 + number] * (3 + 4 * number),
        SamplingParams(seed=number - 2, max_tokens=30, ignore_eos=True, **how),  # type: ignore[arg-type]
    )
    for number, how in enumerate(
        (
            {},
            {"temperature": 0.7, "top_p": 0.9},
            {"top_k": 20, "frequency_penalty": 0.5},
            {"temperature": 1.5, "min_p": 0.02, "n": 2},
        )
    )
]


def generate(
    executor: Executor, folder: Path, requests: list[AddRequest]
) -> dict[tuple[str, int], list[int]]:
    config = EngineConfig(model=str(folder), max_num_seqs=8, max_num_batched_tokens=64)
    core = EngineCore(config, executor)
    for request in requests:
        core.add(request)
    outputs: dict[tuple[str, int], list[int]] = {}
    while core.has_work:
        for output in core.step().outputs:
            key = (output.request_id, output.index)
            outputs.setdefault(key, []).extend(output.new_token_ids)
    return outputs


def test_seeded_requests_get_the_same_tokens_on_host_and_device_together_and_alone(
    tmp_path: Path,
) -> None:
    torch.set_num_threads(1)
    make_checkpoint(tmp_path)
    host = generate(make_executor(tmp_path), tmp_path, REQUESTS)
    assert len({tuple(tokens) for tokens in host.values()}) == 5
    assert generate(make_gpu_executor(tmp_path, max_num_seqs=8), tmp_path, REQUESTS) == host
    executor = make_executor(tmp_path)
    for request in REQUESTS:
        for key, tokens in generate(executor, tmp_path, [request]).items():
            assert tokens == host[key]
