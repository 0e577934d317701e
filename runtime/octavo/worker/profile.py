"""The steps that run before any request: to measure peak memory, and to warm caches up."""

from __future__ import annotations

import logging

import torch

from octavo.config import EngineConfig
from octavo.models.decoder import Decoder
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import SamplingState, ScheduledSequence
from octavo.worker.model_runner import ModelRunner
from octavo.worker.sampler import Sampler

logger = logging.getLogger(__name__)

# Attention in torch gathers the blocks of one layer at a time, padded to at most twice their size.
_WORKSPACE_LAYERS = 2


def warm_up(runner: ModelRunner, max_num_seqs: int) -> None:
    """Runs a prompt and decodes of one and of two sequences, so that the first request does not pay for
    libraries that initialise themselves lazily. Touches block 0 only."""
    length = min(4, runner.max_model_len - 1)
    if length < 1:
        return
    runner.run([_sequence(0, length, 0)])
    for rows in {1, min(2, max_num_seqs)}:
        runner.run([_sequence(i, 1, length) for i in range(rows)])


def cuda_cache_budget(
    config: EngineConfig, model: Decoder, device: torch.device, dtype: torch.dtype
) -> int:
    """Bytes that `gpu_memory_utilization` leaves for the KV cache beside weights and activations.

    Runs the largest step that the scheduler may build, sampling included, and looks at the peak. May be
    negative when the weights alone exceed the share.
    """
    length = min(config.max_num_batched_tokens, model.config.max_position_embeddings)
    runner = ModelRunner(
        model,
        num_blocks=-(-length // config.block_size),
        max_model_len=length,
        block_size=config.block_size,
        max_num_batched_tokens=config.max_num_batched_tokens,
        device=device,
        dtype=dtype,
    )
    torch.cuda.reset_peak_memory_stats(device)
    _run_largest_steps(config, runner)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    del runner
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)  # the context, and other processes
    budget = int(total * config.gpu_memory_utilization) - peak - others
    layers = model.config.num_layers
    logger.info(
        "GPU memory: %.2f GiB in all, %.2f GiB at the peak of a step, %.2f GiB left for the KV cache.",
        total / 2**30,
        peak / 2**30,
        budget / 2**30,
    )
    return budget * layers // (layers + _WORKSPACE_LAYERS)


def _run_largest_steps(config: EngineConfig, runner: ModelRunner) -> None:
    sampler = Sampler(0)
    prompts: list[ScheduledSequence] = []
    left = config.max_num_batched_tokens
    while left > 0:
        count = min(left, runner.max_model_len)
        prompts.append(_sequence(len(prompts), count, 0, runner.num_blocks))
        left -= count
    decodes = [_sequence(i, 1, 1) for i in range(config.max_num_seqs)]
    for batch in (prompts, decodes):
        result = runner.run(batch)
        if result.logits is not None:
            sampler.sample(result.logits, result.inputs.sequence_ids, result.inputs.sampling)


def _sequence(index: int, count: int, start: int, num_blocks: int = 1) -> ScheduledSequence:
    state = SamplingState(SamplingParams(), None, (), ())
    return ScheduledSequence(index, [0] * count, start, range(num_blocks), state)
