"""Sequence. One completion on its way through the engine."""

from __future__ import annotations

import enum
import sys
from collections.abc import Sequence as AbstractSequence
from dataclasses import dataclass, field

from octavo.engine.kv.prefix_hashes import BlockNames
from octavo.engine.requests.prompt_scores import PromptScores
from octavo.engine.requests.siblings import SiblingGroup
from octavo.outputs import FinishReason
from octavo.sampling.processors import waits_for_token
from octavo.sampling.state import Grammar, SamplingState
from octavo.sampling_params import SamplingParams
from octavo.worker.batch import BASE_MODEL


class SequenceStatus(enum.Enum):
    """`WAITING` owns no KV block (new, or preempted); `FINISHED` is in no queue and never comes back."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """Mutable; the scheduler alone changes it.

    A step under way makes tokens that are not known yet, so there are two counts: `num_scheduled_tokens`
    runs ahead of `num_computed_tokens` by what the steps in flight compute.

    Args:
        sequence_id: Unique in the engine's life; grows with arrival.
        request_id: The request that it belongs to.
        index: Which of the request's n completions.
        prompt_token_ids: Shared by the n completions; never changed.
        params: The request's sampling parameters.
        max_output_tokens: `params.max_tokens`, cut to what the context holds after the prompt.
        is_pooled: Its embedding is wanted beside its tokens.
        priority: Lower runs first; equal ones by their turn.
        cache_salt: Shares cached prefixes only with sequences of the same salt.
        adapter_id: Of its adapter; `BASE_MODEL`: none.
        group: The request's completions, when there are several.
        second_segment: Where the second text of a pair begins, or None.
        grammar: What its output must follow, or None.
        prompt_scores: Of its prompt, where they are wanted.
        output_token_ids: Generated so far.
        num_scheduled_tokens: Tokens of prompt plus output whose KV lies in the cache or will, once the
            steps in flight are done.
        num_computed_tokens: Of these, the ones whose step is done.
        num_cached_tokens: Prompt tokens that the prefix cache held when it first ran.
        is_prefilling: It runs, and has known tokens that no step computes yet.
        end_token_ids: Each of these ends it.
        first_scheduled_time: Unix time in seconds, stamped by the core.
        tenant: On whose behalf it runs; shares are fair between them.
        turn: Virtual time of its begin (`FairShare`); of one tenant in order of arrival.
        block_table: The live table of the block manager; empty while waiting.
        block_names: Of its full blocks, for the prefix cache.
        num_registered_blocks: Of its table, those that the prefix cache knows of.
        settles_at: Once this many tokens are computed, a block of the prompt is to be registered, or one
            behind the sliding window to be dropped (`BlockUpkeep`).
        announced_block: Name of the block that it registers next, while others may wait for it
            (`PrefixesInFlight`).
        awaited_block: Name of the first block that the prefix cache lacked when it was last looked at.
    """

    sequence_id: int
    request_id: str
    index: int
    prompt_token_ids: list[int]
    params: SamplingParams
    max_output_tokens: int
    priority: int = 0
    is_pooled: bool = False
    cache_salt: str | None = None
    adapter_id: int = BASE_MODEL
    group: SiblingGroup | None = None
    second_segment: int | None = None
    grammar: Grammar | None = None
    prompt_scores: PromptScores | None = None
    output_token_ids: list[int] = field(default_factory=list)
    num_scheduled_tokens: int = 0
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    is_prefilling: bool = False
    block_table: AbstractSequence[int] = ()
    num_registered_blocks: int = 0
    settles_at: int = sys.maxsize
    announced_block: bytes | None = None
    awaited_block: bytes | None = None
    status: SequenceStatus = SequenceStatus.WAITING
    end_token_ids: frozenset[int] = frozenset()
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    first_scheduled_time: float | None = None
    tenant: str = ""
    turn: int = 0
    sampling: SamplingState = field(init=False)
    waits_for_token: bool = field(init=False)
    """Not to be sampled while its last token is under way."""
    block_names: BlockNames = field(init=False)
    num_prompt_tokens: int = field(init=False)
    max_fed_tokens: int = field(init=False)
    """Prompt and output but for the last token, which is never fed back."""

    def __post_init__(self) -> None:
        self.block_names = BlockNames(self.cache_salt, self.adapter_id)
        self.num_prompt_tokens = len(self.prompt_token_ids)
        self.max_fed_tokens = self.num_prompt_tokens + self.max_output_tokens - 1
        self.waits_for_token = waits_for_token(self.params)
        self.sampling = SamplingState(
            params=self.params,
            seed=_completion_seed(self.params.seed, self.index),
            prompt_token_ids=self.prompt_token_ids,
            output_token_ids=self.output_token_ids,
            is_pooled=self.is_pooled,
            second_segment=self.second_segment,
            grammar=self.grammar,
            end_token_ids=self.end_token_ids,
        )

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts sequences by who runs first; the greatest is preempted first."""
        return (self.priority, self.turn, self.sequence_id)

    @property
    def num_tokens(self) -> int:
        """Known ones, prompt and output."""
        return self.num_prompt_tokens + len(self.output_token_ids)

    @property
    def must_compute_prompt(self) -> bool:
        """What the cache holds of the prompt spares it nothing: each of its tokens is to be scored. Of the
        completions of a request the one that leads does that for all."""
        scores = self.prompt_scores
        if scores is None or scores.is_complete:
            return False
        return self.group is None or self.group.leader is self

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    def tokens(self, start: int, stop: int) -> list[int]:
        """Known tokens of prompt and output from position `start` up to `stop`."""
        num_prompt = self.num_prompt_tokens
        if start >= num_prompt:
            return self.output_token_ids[start - num_prompt : stop - num_prompt]
        if stop <= num_prompt:
            return self.prompt_token_ids[start:stop]
        return self.prompt_token_ids[start:] + self.output_token_ids[: stop - num_prompt]


def _completion_seed(seed: int | None, index: int) -> int | None:
    """`seed + index`, wrapped into 64 signed bits."""
    if seed is None:
        return None
    return (seed + index + 2**63) % 2**64 - 2**63
