"""Token outputs. What the engine tells of a sequence that got a token."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Sequence as AbstractSequence

from octavo.engine.messages import Refusal, TokenLogprobs, TokenOutput
from octavo.engine.requests.sequence import Sequence
from octavo.errors import InvalidParameterError
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken

_NOT_FINITE = (
    "What the model computed of this text holds numbers that are not finite (NaN or infinity): its weights, "
    "or those of the adapter, are damaged or overflow in"
)
_WIDEST = "float32"


def output_of(
    sequence: Sequence, sampled: AbstractSequence[SampledToken], dtype: str
) -> TokenOutput:
    """Of a sequence that got `sampled`, one token or more, of a model that computes in `dtype`."""
    grammar = sequence.grammar
    error = None if grammar is None else grammar.error_at(len(sequence.output_token_ids))
    if error is not None:
        return _lost(sequence, error)
    if sequence.finish_reason is FinishReason.ERROR:
        return _not_finite(sequence, dtype)
    is_first = len(sequence.output_token_ids) == len(sampled)
    token_ids = [token.token_id for token in sampled]
    if not is_first and sequence.finish_reason is None and sampled[0].top_token_ids is None:
        # Nearly every token: six keyword arguments less.
        if len(token_ids) == 1:
            return TokenOutput(sequence.request_id, sequence.index, token_ids)
        return TokenOutput(
            sequence.request_id, sequence.index, token_ids, num_accepted=len(token_ids) - 1
        )
    embedding = sampled[0].embedding
    if embedding is not None and not all(map(math.isfinite, embedding)):
        return _not_finite(sequence, dtype)
    # With `max_tokens` 0 the prompt alone is wanted.
    has_token = sequence.params.max_tokens != 0
    scores = sequence.prompt_scores if is_first else None
    return TokenOutput(
        request_id=sequence.request_id,
        index=sequence.index,
        new_token_ids=token_ids if has_token else [],
        finish_reason=sequence.finish_reason,
        stop_reason=sequence.stop_reason,
        logprobs=_logprobs(sampled) if has_token else None,
        # A prompt counts once: what the other completions found is what the first one computed.
        num_cached_tokens=sequence.num_cached_tokens if is_first and sequence.index == 0 else 0,
        first_scheduled_time=sequence.first_scheduled_time if is_first else None,
        embedding=embedding,
        prompt_logprobs=(
            _logprobs(scores.release()) if scores is not None and scores.is_complete else None
        ),
        num_accepted=len(token_ids) - 1,  # a step draws one token behind those that came true
    )


def failure_of(sequence: Sequence, message: str, *, fails_again: bool = False) -> TokenOutput:
    """Of a sequence that ended with its step."""
    return TokenOutput(
        request_id=sequence.request_id,
        index=sequence.index,
        new_token_ids=[],
        finish_reason=FinishReason.ERROR,
        error=message,
        fails_again=fails_again,
    )


def _not_finite(sequence: Sequence, dtype: str) -> TokenOutput:
    advice = "" if dtype == _WIDEST else " Another --dtype may hold them."
    return failure_of(sequence, f"{_NOT_FINITE} {dtype}.{advice}", fails_again=True)


def _lost(sequence: Sequence, why: str) -> TokenOutput:
    """Of a sequence whose grammar costs more than one request may: others go on."""
    outputs = sequence.params.structured_outputs
    name = "structured_outputs" if outputs is None else outputs.parameter
    error = InvalidParameterError(name, f"{name} became too costly to follow: {why:.200}")
    return TokenOutput(
        sequence.request_id,
        sequence.index,
        [],
        finish_reason=FinishReason.ERROR,
        refusal=Refusal.of(error),
    )


def _logprobs(tokens: Iterable[SampledToken]) -> list[TokenLogprobs] | None:
    """None where they were not asked for."""
    found = []
    for token in tokens:
        if token.top_token_ids is None:
            return None
        found.append(
            TokenLogprobs(token.top_token_ids, token.top_logprobs or [], token.top_ranks or [])
        )
    return found
