"""Messages. The wire between API process and engine process: msgpack structs, tagged by their type.

Text never crosses it: the engine process sees token ids alone, so no user input can reach its parsers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from octavo.errors import (
    ContextLengthExceededError,
    InvalidParameterError,
    OctavoError,
    QueueFullError,
)
from octavo.outputs import FinishReason
from octavo.sampling_params import SamplingParams
from octavo.sleep_level import SleepLevel

if TYPE_CHECKING:  # the API process has no worker
    from octavo.worker.batch import ExecutorInfo


class AddRequest(msgspec.Struct, frozen=True, tag="add", array_like=True):
    """A validated request. Those of equal priority run in the order in which they come.

    `is_pooled` asks for the prompt's embedding, or its score, beside its first token. `second_segment` is
    where the second text of a pair begins, for models that tell the two apart. Cached prefixes are shared
    only between requests of the same `cache_salt`. A lower `priority` runs first. Each of `end_token_ids`
    ends a completion, unless `sampling` ignores them. Shares are fair between the requests of each `tenant`.
    `adapter_id` is that of a loaded adapter; 0: none. `ticket` is what it is admitted by, where the engine
    decides that (see `Fronts`), for so many sequences as the ticket's first request says.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams
    priority: int = 0
    is_pooled: bool = False
    cache_salt: str | None = None
    second_segment: int | None = None
    end_token_ids: tuple[int, ...] = ()
    tenant: str = ""
    adapter_id: int = 0
    ticket: int = 0
    ticket_sequences: int = 0


class AbortRequests(msgspec.Struct, frozen=True, tag="abort", array_like=True):
    """Forget these requests and free their blocks before the next step. Unknown ids are ignored.

    With `indexes`, only these completions of the (single) request end.
    """

    request_ids: list[str]
    indexes: list[int] | None = None


class LoadAdapter(msgspec.Struct, frozen=True, tag="load_adapter", array_like=True):
    """Read the adapter in `folder`, for requests with its id; answered by `AdapterLoaded`.

    Args:
        adapter_id: Above 0; never one that was another adapter's before.
    """

    adapter_id: int
    folder: str


class UnloadAdapter(msgspec.Struct, frozen=True, tag="unload_adapter", array_like=True):
    """Take no more requests with this adapter, and forget it when the last one has ended. An unknown id is
    ignored."""

    adapter_id: int


class Ping(msgspec.Struct, frozen=True, tag="ping", array_like=True):
    """Answered between two steps by `Pong`: what readiness and liveness ask."""

    nonce: int


class ListenForFronts(msgspec.Struct, frozen=True, tag="listen", array_like=True):
    """Answer other API processes too, at this address of ZeroMQ's."""

    address: str


class ForgetFront(msgspec.Struct, frozen=True, tag="forget_front", array_like=True):
    """An API process is gone: end its requests, and hear nothing of it any more."""

    front: bytes


class ReleaseTicket(msgspec.Struct, frozen=True, tag="release", array_like=True):
    """What was admitted by this ticket is over."""

    ticket: int


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown", array_like=True):
    """End the engine process after the current step."""


class Sleep(msgspec.Struct, frozen=True, tag="sleep", array_like=True):
    """Give memory back when nothing runs any more; answered by `Pong` when it is done."""

    nonce: int
    level: SleepLevel


class WakeUp(msgspec.Struct, frozen=True, tag="wake_up", array_like=True):
    """Answered by `Pong` when the model can run again."""

    nonce: int


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """Of one position; the sampled token comes first, then the best ones, most probable first."""

    token_ids: list[int]
    logprobs: list[float]
    ranks: list[int]


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """An `InvalidParameterError` or a `QueueFullError` on its way over the border, where it becomes one
    again."""

    reason: str
    parameter: str
    message: str
    retry_after_seconds: int = 0

    @classmethod
    def of(cls, error: InvalidParameterError | QueueFullError) -> Refusal:
        if isinstance(error, QueueFullError):
            return cls(error.reason, "", str(error), error.retry_after_seconds)
        return cls(error.reason, error.parameter, str(error))

    def to_error(self) -> OctavoError:
        if self.reason == QueueFullError.reason:
            return QueueFullError(self.message, self.retry_after_seconds)
        is_length = self.reason == ContextLengthExceededError.reason
        kind = ContextLengthExceededError if is_length else InvalidParameterError
        return kind(self.parameter, self.message)


class TokenOutput(msgspec.Struct, frozen=True, array_like=True):
    """New tokens of completion `index`; `finish_reason` set means the last ones.

    `first_scheduled_time` (seconds, `time.time()`) and `num_cached_tokens` (prompt tokens that the prefix
    cache held) are set on a completion's first output; the API process subtracts the request's arrival
    from it for the queue time. `prompt_logprobs`, of each token of the prompt but the first, come with the
    first output of the completion that computed the prompt. `num_accepted` of the tokens were guessed.
    `refusal` means that the request itself is wrong,
    `error` that a step failed, and `fails_again` that it would whenever the request is sent.
    """

    request_id: str
    index: int
    new_token_ids: list[int]
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    logprobs: list[TokenLogprobs] | None = None
    error: str | None = None
    num_cached_tokens: int = 0
    first_scheduled_time: float | None = None
    embedding: list[float] | None = None
    refusal: Refusal | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    num_accepted: int = 0
    fails_again: bool = False


class EngineStats(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot after a step. Counters grow from the engine's start; `kv_*` are in tokens or blocks.

    A block is used while a running sequence holds it; one that only caches a prefix is not, and a shared
    one counts once, with its tokens. Hits are prompt tokens found in the prefix cache, queries all prompt
    tokens that were looked for. `num_failed_steps` counts since a completion, or the engine's test of itself,
    last succeeded. `sleep_level` is 0 while the model is awake. `spec_decode_*` count steps of a sequence
    with drafts, their drafts, and of these the ones that came true by their place behind the known token.
    `sequences_received_total` counts those of all requests, also of refused ones: what was sent behind them
    the snapshot does not know of. `sequences_orphaned_total` counts those that ended with the API process
    that had asked for them. `running_adapters` are the ids of those that running sequences have,
    `waiting_adapters` of those that waiting ones have; the model itself is none.
    """

    step: int
    num_running: int
    num_waiting: int
    kv_blocks_total: int
    kv_blocks_used: int
    kv_tokens_held: int
    preemptions_total: int
    prompt_tokens_total: int
    generation_tokens_total: int
    prefix_cache_hit_tokens_total: int = 0
    prefix_cache_query_tokens_total: int = 0
    num_failed_steps: int = 0
    sequences_received_total: int = 0
    sleep_level: int = 0
    spec_decode_drafts_total: int = 0
    spec_decode_draft_tokens_total: int = 0
    spec_decode_accepted_tokens_per_position: tuple[int, ...] = ()
    sequences_orphaned_total: int = 0
    running_adapters: tuple[int, ...] = ()
    waiting_adapters: tuple[int, ...] = ()


class StepOutputs(msgspec.Struct, frozen=True, tag="outputs", array_like=True):
    """What one step produced. Sent also when only the stats changed (an abort, say)."""

    outputs: list[TokenOutput]
    stats: EngineStats


class Pong(msgspec.Struct, frozen=True, tag="pong", array_like=True):
    nonce: int
    stats: EngineStats


class AdapterLoaded(msgspec.Struct, frozen=True, tag="adapter_loaded", array_like=True):
    """Requests may have the adapter, or why they may not; `reason` is an error class's constant."""

    adapter_id: int
    reason: str = ""
    message: str = ""


class EngineInfo(msgspec.Struct, frozen=True, tag="info", array_like=True):
    """The first message of an engine process that started: what it settled on (see `ExecutorInfo`)."""

    max_model_len: int
    num_kv_blocks: int
    block_size: int
    vocab_size: int
    dtype: str
    device: str
    phases: dict[str, float]
    can_generate: bool = True
    gives_scores: bool = False
    runs_whole_prompts: bool = False

    @classmethod
    def of(cls, info: ExecutorInfo, max_model_len: int) -> EngineInfo:
        """What of the executor's concerns the API process, which validates requests against it.

        Args:
            max_model_len: The longest sequence that finds room.
        """
        return cls(
            max_model_len=max_model_len,
            num_kv_blocks=info.num_kv_blocks,
            block_size=info.block_size,
            vocab_size=info.vocab_size,
            dtype=info.dtype,
            device=info.device,
            phases=info.phases,
            can_generate=info.can_generate,
            gives_scores=info.gives_scores,
            runs_whole_prompts=info.runs_whole_prompts,
        )


class StartFailed(msgspec.Struct, frozen=True, tag="start_failed", array_like=True):
    """Instead of `EngineInfo`. `reason` is an error class's constant."""

    reason: str
    message: str
    is_user_error: bool


class EngineFailed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """The last message of an engine that started and cannot go on: why it ends."""

    message: str


class PhaseStarted(msgspec.Struct, frozen=True, tag="phase", array_like=True):
    """Start-up progress: `load`, `profile`, `warmup` …"""

    name: str


class BytesLoaded(msgspec.Struct, frozen=True, tag="bytes", array_like=True):
    """Of the weights, in the phase `load`."""

    done: int
    total: int


ToEngine = (
    AddRequest
    | AbortRequests
    | LoadAdapter
    | UnloadAdapter
    | Ping
    | Sleep
    | WakeUp
    | ListenForFronts
    | ForgetFront
    | ReleaseTicket
    | Shutdown
)
FromEngine = (
    StepOutputs
    | Pong
    | AdapterLoaded
    | EngineInfo
    | StartFailed
    | EngineFailed
    | PhaseStarted
    | BytesLoaded
)
