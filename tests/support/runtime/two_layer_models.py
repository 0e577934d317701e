"""Models of two layers on the execution path of a GPU, and how far their log-probabilities are off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from octavo.kernels.protocols.device import DeviceKernels
from octavo.sampling_params import SamplingParams
from octavo.worker.gpu.executor import GpuExecutor
from tests.support.runtime.checkpoints import make_checkpoint
from tests.support.runtime.gpu_path import Overlapped, Running, make_gpu_executor

GREEDY = SamplingParams(temperature=0.0, logprobs=4, max_tokens=None)


DRAWN = SamplingParams(
    temperature=0.8, top_p=0.9, top_k=30, presence_penalty=0.5, logprobs=4, max_tokens=None
)


BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn


MIXTRAL = ("mixtral", {"num_local_experts": 3})


def checkpoint(folder: Path, family: str, changes: dict[str, int]) -> Any:
    """Transformers' model of it; fp32, in files and in memory."""
    torch.set_num_threads(1)
    return make_checkpoint(
        folder,
        family,
        num_hidden_layers=2,
        head_dim=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
        **changes,
    )


def run(executor: Any, adapter_ids: tuple[int, int, int] = (0, 0, 0)) -> list[Running]:
    """Chunks, decodes and both of them in a step."""
    steps = Overlapped(executor)
    a, b, c = running = [
        Running(0, list(range(3, 22)), GREEDY),
        Running(1, [50, 51], GREEDY),
        Running(2, list(range(60, 71)), DRAWN, 7),
    ]
    for sequence, adapter_id in zip(running, adapter_ids, strict=True):
        sequence.adapter_id = adapter_id
    steps.submit([(a, 12), (b, 2)])
    steps.submit([(b, 1), (a, 7), (c, 11)])
    for _ in range(3):
        steps.submit([(a, 1), (b, 1), (c, 1)])
    steps.take()
    return running


def executor(
    folder: Path, kernels: DeviceKernels, dtype: torch.dtype, cache_dtype: torch.dtype
) -> GpuExecutor:
    return make_gpu_executor(
        folder, kernels=kernels, dtype=dtype, cache_dtype=cache_dtype, max_num_seqs=4
    )


def log_probabilities(model: Any, sequence: Running) -> torch.Tensor:
    """Of every token in each place of the sequence's output, `[outputs, vocab]` float32."""
    ids = torch.tensor([[*sequence.prompt, *sequence.output[:-1]]])
    with torch.inference_mode():
        logits = model(ids).logits[0, len(sequence.prompt) - 1 :]
    return torch.log_softmax(logits.float(), dim=-1)


def errors(sequences: list[Running], exact: Any, model: Any = None) -> torch.Tensor:
    """Of the log-probabilities that came with the sequences' tokens, or of those by `model` after the same
    tokens; flat."""
    found = []
    for sequence in sequences:
        true = log_probabilities(exact, sequence)
        others = None if model is None else log_probabilities(model, sequence)
        for place, token in enumerate(sequence.tokens):
            ids = token.top_token_ids
            assert ids is not None
            reported = torch.tensor(token.top_logprobs) if others is None else others[place, ids]
            found.append(reported - true[place, ids])
    return torch.cat(found)


def mean_size(errors: torch.Tensor) -> float:
    return errors.square().mean().sqrt().item()
