"""The execution path of a GPU with its own Triton kernels, interpreted: end to end on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from octavo.kernels.gpu import device as gpu
from octavo.kernels.reference import device as reference
from octavo.sampling_params import SamplingParams

from ..checkpoints import make_checkpoint  # noqa: TID252 (rootdir is not importable)
from ..kernels.interpreter import interpreted_kernels  # noqa: TID252
from .gpu_path import Overlapped, Running, make_gpu_executor

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


def run_kernels(
    folder: Path, dtype: torch.dtype, cache_dtype: torch.dtype
) -> tuple[list[Running], list[Running]]:
    """With interpreted kernels and with the reference's."""
    how: dict[str, Any] = {"dtype": dtype, "cache_dtype": cache_dtype, "max_num_seqs": 4}
    with interpreted_kernels():
        ours = run(make_gpu_executor(folder, kernels=gpu, **how))
    return ours, run(make_gpu_executor(folder, kernels=reference, **how))


@pytest.mark.parametrize(
    ("family", "changes", "cache_dtype"),
    [("qwen3", {}, torch.float32), ("qwen3", {}, FP8), (*MIXTRAL, torch.float32)],
)
def test_triton_and_reference_kernels_give_the_same_tokens(
    tmp_path: Path, family: str, changes: dict[str, int], cache_dtype: torch.dtype
) -> None:
    checkpoint(tmp_path, family, changes)
    for own, expected in zip(*run_kernels(tmp_path, torch.float32, cache_dtype), strict=True):
        assert own.output == expected.output
        assert [t.top_token_ids for t in own.tokens] == [t.top_token_ids for t in expected.tokens]


def log_probabilities(model: Any, sequence: Running) -> torch.Tensor:
    """Of every token in each place of the sequence's output, `[outputs, vocab]` float32."""
    ids = torch.tensor([[*sequence.prompt, *sequence.output[:-1]]])
    with torch.inference_mode():
        logits = model(ids).logits[0, len(sequence.prompt) - 1 :]
    return torch.log_softmax(logits.float(), dim=-1)


def errors(sequences: list[Running], model: Any, exact: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the log-probabilities that came with the tokens, and of those by `model`, flat."""
    own, others = [], []
    for sequence in sequences:
        true, theirs = (log_probabilities(m, sequence) for m in (exact, model))
        for place, token in enumerate(sequence.tokens):
            ids = token.top_token_ids
            own.append(torch.tensor(token.top_logprobs) - true[place, ids])
            others.append(theirs[place, ids] - true[place, ids])
    return torch.cat(own), torch.cat(others)


@pytest.mark.parametrize(
    ("family", "changes", "cache_dtype"),
    [("qwen3", {}, BF16), ("qwen3", {}, FP8), (*MIXTRAL, BF16)],
)
def test_bfloat16_errs_no_more_than_transformers_in_bfloat16(
    tmp_path: Path, family: str, changes: dict[str, int], cache_dtype: torch.dtype
) -> None:
    """Both against the same rounded weights in float32, after the same tokens."""
    exact = checkpoint(tmp_path, family, changes)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.to(BF16))
    rounded = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=BF16, attn_implementation="eager"
    )

    ours, theirs = run_kernels(tmp_path, BF16, cache_dtype)

    own, yardstick = errors(ours, rounded, exact)
    ref, yardstick2 = errors(theirs, rounded, exact)
    rms = lambda x: x.square().mean().sqrt().item()
    print(
        rms(own),
        rms(yardstick),
        rms(ref),
        rms(yardstick2),
        own.abs().max(),
        yardstick.abs().max(),
        len(own),
    )
    print([s.output for s in ours], [s.output for s in theirs])
