"""The execution path of a GPU with its own Triton kernels, interpreted: end to end on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers

from octavo.kernels.gpu import device as gpu
from octavo.kernels.gpu.tuning import chips
from octavo.kernels.protocols.device import DeviceKernels
from octavo.kernels.reference import device as reference
from octavo.sampling_params import SamplingParams
from octavo.worker.gpu.executor import GpuExecutor
from tests.support.kernels.interpreter import interpreted_kernels
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


def run(executor: Any) -> list[Running]:
    """Chunks, decodes and both of them in a step."""
    steps = Overlapped(executor)
    a, b, c = running = [
        Running(0, list(range(3, 22)), GREEDY),
        Running(1, [50, 51], GREEDY),
        Running(2, list(range(60, 71)), DRAWN, 7),
    ]
    steps.submit([(a, 12), (b, 2)])
    steps.submit([(b, 1), (a, 7), (c, 11)])
    for _ in range(3):
        steps.submit([(a, 1), (b, 1), (c, 1)])
    steps.take()
    return running


def run_interpreted(folder: Path, dtype: torch.dtype, cache_dtype: torch.dtype) -> list[Running]:
    # Of an H100's programs most would find nothing to do.
    with interpreted_kernels(), mock.patch.object(chips, "DEFAULT_MULTIPROCESSORS", 8):
        return run(executor(folder, gpu, dtype, cache_dtype))


def executor(
    folder: Path, kernels: DeviceKernels, dtype: torch.dtype, cache_dtype: torch.dtype
) -> GpuExecutor:
    return make_gpu_executor(
        folder, kernels=kernels, dtype=dtype, cache_dtype=cache_dtype, max_num_seqs=4
    )


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
