"""One completion on its way through the engine."""

from __future__ import annotations

import enum
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import SamplingState


class SequenceStatus(enum.Enum):
    """`WAITING` owns no KV block (new, or preempted); `FINISHED` is in no queue and never comes back."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable; the scheduler alone changes it.

    Args:
        sequence_id: Unique in the engine's life; grows with arrival.
        request_id: The request that it belongs to.
        index: Which of the request's n completions.
        prompt_token_ids: Shared by the n completions; never changed.
        params: The request's sampling parameters.
        max_output_tokens: `params.max_tokens`, cut to what the context holds after the prompt.
        is_pooled: Its embedding is wanted beside its tokens.
        priority: Lower runs first; equal ones in order of arrival.
        output_token_ids: Generated so far.
        num_computed_tokens: Tokens of prompt plus output whose KV lies in the cache.
        first_scheduled_time: Unix time in seconds, stamped by the core.
        block_table: The live table of the block manager; empty while waiting.
    """

    sequence_id: int
    request_id: str
    index: int
    prompt_token_ids: list[int]
    params: SamplingParams
    max_output_tokens: int
    priority: int = 0
    is_pooled: bool = False
    output_token_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    block_table: AbstractSequence[int] = ()
    status: SequenceStatus = SequenceStatus.WAITING
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    first_scheduled_time: float | None = None
    sampling: SamplingState = field(init=False)

    def __post_init__(self) -> None:
        self.sampling = SamplingState(
            params=self.params,
            seed=_completion_seed(self.params.seed, self.index),
            prompt_token_ids=self.prompt_token_ids,
            output_token_ids=self.output_token_ids,
            is_pooled=self.is_pooled,
        )

    @property
    def order(self) -> tuple[int, int]:
        """Sorts sequences by who runs first; the greatest is preempted first."""
        return (self.priority, self.sequence_id)

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_token_ids) + len(self.output_token_ids)

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    def next_tokens(self, count: int) -> list[int]:
        """The `count` tokens after the computed ones: a prompt chunk, the last token, or a recomputation."""
        start, num_prompt = self.num_computed_tokens, len(self.prompt_token_ids)
        if start >= num_prompt:
            return self.output_token_ids[start - num_prompt : start - num_prompt + count]
        tokens = self.prompt_token_ids[start : start + count]
        if len(tokens) < count:
            tokens += self.output_token_ids[: count - len(tokens)]
        return tokens


def _completion_seed(seed: int | None, index: int) -> int | None:
    """`seed + index`, wrapped into 64 signed bits."""
    if seed is None:
        return None
    return (seed + index + 2**63) % 2**64 - 2**63
