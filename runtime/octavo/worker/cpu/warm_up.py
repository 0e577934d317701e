"""Warm-up. The steps that run on a CPU before any request, to warm caches up."""

from __future__ import annotations

import torch

from octavo.sampling import processors
from octavo.sampling.host.sampler import Sampler
from octavo.sampling.state import SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import ScheduledSequence
from octavo.worker.cpu.runner import Runner


def warm_up(runner: Runner, *, max_num_seqs: int, max_num_batched_tokens: int) -> None:
    """Runs a prompt and decodes of one and of two sequences, so that the first request does not pay for
    libraries that initialise themselves lazily, nor for kernels that are loaded late: a decode of one is
    recorded, and done again. Touches block 0 only."""
    length = min(4, runner.max_model_len - 1, max_num_batched_tokens)
    if length < 1:
        return
    runner.run([_sequence(0, length, 0)])
    for rows in (1, 1, min(2, max_num_seqs)):
        result = runner.run([_sequence(i, 1, length) for i in range(rows)])
    if result.logits is not None:
        _sample(result.logits[:1])


def _sample(logits: torch.Tensor) -> None:
    """In every way that has code of its own."""
    sampler, drawn = Sampler(0), SamplingParams()
    for params in (drawn, SamplingParams(top_p=0.9), *processors.each_example(drawn)):
        sampler.sample(logits, [0], [SamplingState(params, 0, (), ())])


def _sequence(index: int, count: int, start: int) -> ScheduledSequence:
    state = SamplingState(SamplingParams(), None, (), ())
    return ScheduledSequence(index, [0] * count, start, [0], state)
