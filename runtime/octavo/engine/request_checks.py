"""Request checks. What the engine itself refuses, whoever sent it: it alone knows the model's sizes."""

from __future__ import annotations

from octavo.engine.messages import AddRequest
from octavo.engine.requests.end_conditions import end_tokens
from octavo.errors import ContextLengthExceededError, InvalidParameterError
from octavo.no_head import no_head
from octavo.worker.batch import ExecutorInfo


def check_request(request: AddRequest, info: ExecutorInfo, max_model_len: int) -> None:
    """Raises as `EngineCore.check`, but for what depends on other requests or on compiling a grammar."""
    if not (request.is_pooled or info.can_generate):
        raise no_head("score" if info.gives_scores else "embed")
    _check_ids(request, info.vocab_size)
    _check_minimum(request, info.vocab_size)
    _check_grammar(request)
    needed = len(request.prompt_token_ids) + needs_room(request)
    if needed > max_model_len:
        output = ", one of them for output" if needs_room(request) else ""
        raise ContextLengthExceededError(
            "prompt",
            f"The prompt has {len(request.prompt_token_ids)} tokens, but the context holds "
            f"{max_model_len}{output}. Shorten the prompt or raise max_model_len (or the KV cache's memory).",
        )


def needs_room(request: AddRequest) -> bool:
    """Whether a token of output must fit behind the prompt. What comes beside an embedding, or where none is
    wanted, is never fed back."""
    return not (request.is_pooled or request.sampling.max_tokens == 0)


def _check_ids(request: AddRequest, vocab_size: int) -> None:
    prompt = request.prompt_token_ids
    if not prompt:
        raise InvalidParameterError("prompt", "The prompt has no tokens; it needs at least one.")
    if min(prompt) < 0 or max(prompt) >= vocab_size:
        wrong = next(one for one in prompt if not 0 <= one < vocab_size)
        raise InvalidParameterError(
            "prompt",
            f"The prompt holds the token id {wrong}, at place {prompt.index(wrong)} of "
            f"{len(prompt)}; the model's ids lie in [0, {vocab_size - 1}].",
        )
    params = request.sampling
    if params.bad_words_token_ids and params.allowed_token_ids:  # might leave no token
        raise InvalidParameterError(
            "bad_words_token_ids",
            "bad_words_token_ids cannot be had together with allowed_token_ids. Leave one out.",
        )
    for name, token_id in params.named_token_ids():
        if not 0 <= token_id < vocab_size:
            raise InvalidParameterError(
                name,
                f"{name} holds the token id {token_id}; the model's ids lie in [0, {vocab_size - 1}].",
            )


def _check_minimum(request: AddRequest, vocab_size: int) -> None:
    """Some token must be left to be drawn before the minimum."""
    params = request.sampling
    if not params.min_tokens:
        return
    ends = end_tokens(params, request.end_token_ids, vocab_size)
    drawn = range(vocab_size) if params.allowed_token_ids is None else params.allowed_token_ids
    if all(token_id in ends for token_id in drawn):
        raise InvalidParameterError(
            "min_tokens",
            f"min_tokens is {params.min_tokens}, and all tokens that may be drawn end the answer "
            "(allowed_token_ids, stop_token_ids and the model's own ends). Leave min_tokens out, or "
            "allow others.",
        )


def _check_grammar(request: AddRequest) -> None:
    outputs = request.sampling.structured_outputs
    if outputs is None:
        return
    for name in ("allowed_token_ids", "bad_words", "min_tokens"):
        if getattr(request.sampling, name):  # may leave no token that the grammar allows
            raise InvalidParameterError(
                name, f"{name} cannot be had together with {outputs.parameter}. Leave one out."
            )
