"""End conditions. When a sequence is complete: end-of-sequence and stop tokens, and the output's length.

Stop strings are not known here: the API side finds them in the text and aborts the sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as AbstractSequence

from octavo.engine.requests.sequence import Sequence
from octavo.outputs import FinishReason
from octavo.sampling.state import SampledToken
from octavo.sampling_params import SamplingParams


def end_tokens(
    params: SamplingParams, model_end_tokens: Iterable[int], vocab_size: int
) -> frozenset[int]:
    """All tokens that end a sequence: one look-up per token decides. Checkpoints name tokens that were added
    and have no row in the model's table; the model draws none of them, and what shapes its scores has no
    place for them."""
    if params.max_tokens == 0:
        return frozenset()  # the one token that is drawn is nobody's
    stops = frozenset(params.stop_token_ids or ())
    named = stops if params.ignore_eos else stops.union(model_end_tokens)
    return frozenset(one for one in named if one < vocab_size)


def take_tokens(sequence: Sequence, tokens: AbstractSequence[SampledToken]) -> bool:
    """Adds the tokens to the sequence's output, and sets its finish reason when the last one ends it: an
    error where the model gave no scores that a token could follow from."""
    outputs, scores = sequence.output_token_ids, sequence.prompt_scores
    has_scores = scores is None or not scores.is_spoilt
    for token in tokens:
        if not has_scores or (token.is_spoilt and token.embedding is None):
            sequence.finish_reason = FinishReason.ERROR
            return True
        outputs.append(token.token_id)
        if token.token_id in sequence.end_token_ids:
            _finish_by_token(sequence, token.token_id)
            return True
        if len(outputs) >= sequence.max_output_tokens:
            sequence.finish_reason = FinishReason.LENGTH
            return True
    return False


def _finish_by_token(sequence: Sequence, token_id: int) -> None:
    """Sets the reasons of a sequence that one of its end tokens ended. A token that the request names
    itself is reported as `stop_reason`, the model's own end of sequence is not."""
    sequence.finish_reason = FinishReason.STOP
    if token_id in (sequence.params.stop_token_ids or ()):
        sequence.stop_reason = token_id
