"""Batch. What one step of the engine runs, and what comes back: the border between scheduler and device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import msgspec

from octavo.sampling.state import SampledToken, SamplingState
from octavo.sleep_level import SleepLevel

PENDING_TOKEN = -1
"""Stands in a decode's `token_ids` for the token that the step in flight samples for that sequence: the
executor knows it before the engine does. Never for one whose scores wait for it
(`octavo.sampling.processors.waits_for_token`)."""


BASE_MODEL = 0
"""The id of no adapter."""


class ScoredRows(msgspec.Struct, frozen=True, gc=False):
    """The rows of a prompt's chunk whose scores are wanted: row i against `targets[i]`, the token behind it,
    and beside it the `num_best` best ones."""

    targets: Sequence[int]
    num_best: int


class ScheduledSequence(msgspec.Struct, frozen=True, gc=False):
    """One sequence's share of a step.

    A struct, because every running sequence makes one per step: a frozen dataclass takes ten times as
    long to build, which was half of the scheduler's time.

    Args:
        sequence_id: Unique in the engine's life.
        token_ids: The tokens to run: a prompt chunk, the last sampled token, or `PENDING_TOKEN`.
        start: Position of `token_ids[0]`, which is the number of tokens already in the KV cache.
        block_ids: The block table; holds at least `start + len(token_ids)` slots. Entries that lie behind
            `ExecutorInfo.sliding_window` may name any block, and must not be read.
        sampling: None when this chunk does not reach the sequence's end: nothing is sampled then.
        scored: Its first rows, where the prompt's log-probabilities are wanted.
        num_drafts: How many of `token_ids`, the last ones, are guesses of what is sampled after the one known
            token before them. Each that comes true is sampled with the one after it in the same step.
        adapter_id: Of the adapter that its rows have, which was added; `BASE_MODEL`: none.
    """

    sequence_id: int
    token_ids: Sequence[int]
    start: int
    block_ids: Sequence[int]
    sampling: SamplingState | None
    scored: ScoredRows | None = None
    num_drafts: int = 0
    adapter_id: int = BASE_MODEL


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One step.

    Args:
        entries: What runs.
        block_copies: Pairs of source and target block, copied in all layers before the step runs
            (copy-on-write).
        released: Sequences that ended or were preempted since the last batch: what an executor keeps of
            them may go. One that comes back is new to it.
        is_followed: Whoever guesses on the executor's side may be asked soon, and sees what the step does.
            None of a step's entries has drafts where it is not.
    """

    entries: Sequence[ScheduledSequence]
    block_copies: Sequence[tuple[int, int]] = ()
    released: Sequence[int] = ()
    is_followed: bool = True


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What an idle engine does every so many seconds, because others count on it. It raises
    `DeviceFaultError` when one of them is gone."""

    seconds: float
    beat: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ExecutorInfo:
    """What an executor settled on after loading and profiling.

    `is_asynchronous`: `submit` returns before the device is done, so that the next step can be prepared
    meanwhile. `sliding_window`: tokens that a query sees at most in any layer, so that blocks of a table
    that lie behind it are never read; None when some layer sees all. `can_generate`: the model has a head
    for the next token; without one it embeds alone, or scores pairs (`gives_scores`).
    `heartbeat`: of a model that several nodes share. `lifelines`: descriptors that become readable when a
    process ends without which no step runs.
    `runs_whole_prompts`: a prompt runs in one step, which must then be able to take `max_model_len` tokens;
    nothing is kept of it, and nothing follows it.
    `max_drafts`: of one step, of all sequences together; None: as many as its tokens.
    `short_step_tokens`: of prompts, in a step that does not take much longer than one of a few tokens.
    `chunk_tokens_per_decode`: of long prompts, in a step beside decodes, where more of them take longer in
    proportion; None: a longer step is worth its time.
    """

    max_model_len: int
    num_kv_blocks: int
    block_size: int
    vocab_size: int
    dtype: str
    device: str
    phases: dict[str, float]
    is_asynchronous: bool = False
    sliding_window: int | None = None
    can_generate: bool = True
    gives_scores: bool = False
    lifelines: tuple[int, ...] = ()
    heartbeat: Heartbeat | None = None
    runs_whole_prompts: bool = False
    max_drafts: int | None = None
    short_step_tokens: int = 512
    chunk_tokens_per_decode: int | None = None


class PendingStep(Protocol):
    """A step under way."""

    def result(self) -> list[SampledToken]:
        """Waits for the step; the tokens of each entry with `sampling`, in the batch's order: one, and behind
        it one for each of its drafts that came true."""
        ...

    @property
    def scored(self) -> list[SampledToken]:
        """Behind `result`: of each entry with `scored`, in the batch's order, its rows' targets."""
        ...

    @property
    def drafter_seconds(self) -> float:
        """That whoever guesses took of the step, where it is done when `submit` returns; else 0."""
        ...


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """The pending step of an executor that is done when `submit` returns."""

    tokens: list[SampledToken]
    scored: list[SampledToken] = field(default_factory=list)
    drafter_seconds: float = 0.0

    def result(self) -> list[SampledToken]:
        return self.tokens


@runtime_checkable
class HoldsAdapters(Protocol):
    """What an executor does beside steps that was started with `enable_lora`; never while a step is in
    flight."""

    def add_adapter(self, adapter_id: int, folder: str) -> None:
        """Raises `ModelInvalidError`, `ModelUnsupportedError` or `InvalidConfigurationError`, and nothing has
        changed then."""
        ...

    def remove_adapter(self, adapter_id: int) -> None:
        """No sequence has it any more."""
        ...


class Executor(Protocol):
    """Owns model and KV memory. `engine` talks to it and never to torch."""

    @property
    def info(self) -> ExecutorInfo: ...

    def submit(self, batch: StepBatch) -> PendingStep:
        """Starts one step. One more may be submitted before its result is taken."""
        ...

    def sleep(self, level: SleepLevel) -> None:
        """Gives memory back: the KV cache's with all that it holds, and the weights' as `level` says. No step
        is under way, and none is submitted before `wake_up`."""
        ...

    def wake_up(self) -> None:
        """Makes of a sleeping executor what it was after its start. Raises as `create_executor`."""
        ...
