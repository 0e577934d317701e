"""Profile and warm-up. The steps that run on a GPU before any request: to measure peak memory, and to compile
what will run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
import torch

from octavo.config import EngineConfig
from octavo.errors import OutOfMemoryError
from octavo.models.seated_adapters import EMPTY_ADAPTER
from octavo.models.spec import ModelSpec
from octavo.sampling import processors
from octavo.sampling.state import SamplingState
from octavo.sampling_params import MAX_LOGPROBS, SamplingParams
from octavo.worker.batch import PendingStep, ScheduledSequence, StepBatch
from octavo.worker.gpu.cuda_graphs import Capture
from octavo.worker.gpu.packed_runner import RunnerLimits

logger = logging.getLogger(__name__)

_GREEDY = SamplingParams(temperature=0.0)
_DRAWN = SamplingParams(temperature=0.8)
_FILTERED = SamplingParams(temperature=0.8, top_k=40, top_p=0.9, min_p=0.01)
# Of what a profile run cannot see: fragmentation, and the libraries' own buffers made later.
_SPARE_BYTES = 256 * 2**20


class SteppedRunner(Protocol):
    """Of any rank. The first runs the steps that it is given; the others' run each time what the first tells
    them, which is the same."""

    @property
    def limits(self) -> RunnerLimits: ...

    def submit(self, batch: StepBatch) -> PendingStep: ...

    def capture(self, capture: Capture) -> None: ...


def warm_up_gpu(runner: SteppedRunner) -> None:
    """Runs a step of every kind that has kernels of its own, so that no request waits for a compiler:
    prompts of all sizes, alone and beside a decode, and all ways to sample. Last the largest steps, so that
    memory that is short is noticed now.

    Touches block 0 alone, and leaves no rows behind.
    """
    limits = runner.limits
    decode = _sequence(limits.max_num_seqs, 1, 0, _GREEDY, limits.block_size)
    for tokens in step_sizes(limits.max_num_batched_tokens):
        prompts = _prompts(tokens, -(-tokens // _longest_prompt(limits)), limits)
        _run_and_release(runner, prompts)
        if tokens < limits.max_num_batched_tokens and len(prompts) < limits.max_num_seqs:
            _run_and_release(runner, [decode, *prompts])
    for params in _ways_to_sample():
        rows = min(3, limits.max_num_seqs)
        _run(runner, [_sequence(i, 1, 0, params, limits.block_size) for i in range(rows)])
        if limits.max_drafts:
            _run(runner, _decodes(1, min(2, limits.max_drafts), params, limits))
    run_largest_steps(runner)


def run_largest_steps(runner: SteppedRunner) -> None:
    """Takes the memory that serving may need, so that too little is noticed now.

    Touches block 0 alone, and leaves no rows behind. Raises `torch.OutOfMemoryError`.
    """
    for entries in largest_steps(runner.limits):
        _run_and_release(runner, entries)


def step_sizes(most: int) -> list[int]:
    """Numbers of tokens up to `most` that between them launch every kernel that any number does.

    A mixture of experts takes for a number what it takes for the next power of two (see
    `octavo.kernels.gpu.tuning.experts`), and prompts take one of two kernels, for short and long ones.
    """
    return [*(1 << bits for bits in range((most - 1).bit_length())), most]


def _ways_to_sample() -> list[SamplingParams]:
    """Each takes kernels of its own: filters have theirs, and processors make float32 of the logits."""
    return [_GREEDY, _DRAWN, _FILTERED, *processors.each_example(_DRAWN), _everything()]


def _everything() -> SamplingParams:
    return processors.with_all(msgspec.structs.replace(_FILTERED, seed=1, logprobs=MAX_LOGPROBS))


def _run_and_release(runner: SteppedRunner, entries: list[ScheduledSequence]) -> None:
    """As they are, and where the model takes adapters with one of them, too."""
    _run(runner, entries)
    if runner.limits.max_adapters:
        _run(runner, [msgspec.structs.replace(one, adapter_id=EMPTY_ADAPTER) for one in entries])


def _run(runner: SteppedRunner, entries: list[ScheduledSequence]) -> None:
    runner.submit(StepBatch(entries)).result()
    runner.submit(StepBatch([], released=[entry.sequence_id for entry in entries]))


MakeRunner = Callable[[RunnerLimits], SteppedRunner]


def gpu_cache_budget(
    config: EngineConfig,
    spec: ModelSpec,
    make_runner: MakeRunner,
    device: torch.device,
) -> int:
    """Bytes that `gpu_memory_utilization` leaves for the KV cache.

    Runs the largest steps that the scheduler may build, sampling included, looks at the peak, and sets
    aside what recorded decode steps keep: one set of a decode step's activations, as they share a pool.
    May be negative when the weights alone exceed the share.

    Raises `OutOfMemoryError` when not even these steps fit.
    """
    try:
        peak, graphs = _peaks(config, spec, make_runner, device)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"A step of {config.max_num_batched_tokens} tokens does not fit the GPU beside the "
            "weights. Lower --max-num-batched-tokens or --max-num-seqs, or use a larger GPU."
        ) from error
    if config.enforce_eager:
        graphs = 0
    peak += graphs + _SPARE_BYTES
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    # The context, other processes, and gaps that loading left between the weights: torch keeps those, and
    # the KV cache is too large for them.
    others = total - free - torch.cuda.memory_allocated(device)
    budget = int(total * config.gpu_memory_share) - peak - others
    logger.info(
        "GPU memory: %.2f GiB in all, %.2f GiB at the peak of a step, %.2f GiB of it for recorded steps, "
        "%.2f GiB left for the KV cache.",
        total / 2**30,
        peak / 2**30,
        graphs / 2**30,
        budget / 2**30,
    )
    return budget


def _peaks(
    config: EngineConfig, spec: ModelSpec, make_runner: MakeRunner, device: torch.device
) -> tuple[int, int]:
    """Bytes at the peak of the largest steps, weights included, and of a decode step's activations."""
    length = config.max_model_len or spec.default_context
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    # Every table names the one block: time and memory are the same.
    limits = RunnerLimits.of(config, num_blocks=1, max_model_len=length)
    runner = make_runner(limits)
    decodes, prompts = largest_steps(limits)
    _run_and_release(runner, decodes)
    peak = torch.cuda.max_memory_allocated(device)
    recorded = [msgspec.structs.replace(entry, sampling=None) for entry in decodes]
    graphs = _peak_above(device, lambda: _run_and_release(runner, recorded))
    torch.cuda.reset_peak_memory_stats(device)
    _run_and_release(runner, prompts)
    return max(peak, torch.cuda.max_memory_allocated(device)), graphs


def _peak_above(device: torch.device, work: Callable[[], object]) -> int:
    """Bytes that `work` takes for a while."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def largest_steps(
    limits: RunnerLimits,
) -> tuple[list[ScheduledSequence], list[ScheduledSequence]]:
    """The most decodes with all that sampling can be asked for, and the most prompt tokens.

    In this order, because decodes leave what processors hold of sequences (the token counts of penalties)
    for good, beside which prompts have to fit. The prompts are cut so that every row of the step that can
    be sampled is one. The decodes have as many drafts as a step may.
    """
    tokens = limits.max_num_batched_tokens
    decodes = _decodes(limits.max_num_seqs, limits.max_drafts, _everything(), limits)
    return decodes, _prompts(tokens, min(limits.max_num_seqs, tokens), limits)


def _prompts(tokens: int, count: int, limits: RunnerLimits) -> list[ScheduledSequence]:
    """`count` prompts of about equal lengths, of `tokens` in all; fewer and less where the limits say so."""
    count = min(count, limits.max_num_seqs)
    length, longer = divmod(tokens, count)
    longest = _longest_prompt(limits)
    return [
        _sequence(i, min(length + (i < longer), longest), 0, _GREEDY, limits.block_size)
        for i in range(count)
    ]


def _decodes(
    count: int, num_drafts: int, params: SamplingParams, limits: RunnerLimits
) -> list[ScheduledSequence]:
    """Of so many sequences, and so many drafts of all of them together as nearly as the context allows."""
    start = min(1, limits.max_model_len - 1)
    most = max(limits.max_model_len - 1 - start, 0)
    each, more = divmod(num_drafts, count)
    lengths = [min(each + (i < more), most) for i in range(count)]
    return [
        msgspec.structs.replace(
            _sequence(i, 1 + length, start, params, limits.block_size), num_drafts=length
        )
        for i, length in enumerate(lengths)
    ]


def _longest_prompt(limits: RunnerLimits) -> int:
    """A token of output follows."""
    return max(limits.max_model_len - 1, 1)


def _sequence(
    sequence_id: int, count: int, start: int, params: SamplingParams, block_size: int
) -> ScheduledSequence:
    """All its blocks are block 0."""
    blocks = -(-(start + count) // block_size)
    state = SamplingState(params, params.seed, [0] * max(start, 1), [])
    return ScheduledSequence(sequence_id, [0] * count, start, [0] * blocks, state)
