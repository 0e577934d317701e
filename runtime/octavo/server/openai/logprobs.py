"""Log-probabilities as completions tell them: parallel lists with the prompt's tokens where it is echoed, and
vLLM's `prompt_logprobs`."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.engine.requests.detokenizer import IncrementalDetokenizer
from octavo.engine.requests.vocabulary import Vocabulary
from octavo.outputs import Logprob
from octavo.sampling_params import MAX_LOGPROBS, check_number
from octavo.server.openai.answers import (
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
    best_ranked,
    token_name,
)
from octavo.server.openai.api_errors import invalid_value, unsupported
from octavo.tokenizer import Tokenizer

# Some 60 bytes of JSON each.
_MAX_SCORES = 2**20
Position = dict[int, Logprob] | None
"""The token that stands there comes first; None for a prompt's first token, which nothing comes before."""


def completion_logprobs(
    positions: Sequence[Position],
    num_top: int,
    text_offsets: Sequence[int],
    first_token: str = "",
    *,
    names_ids: bool = False,
) -> CompletionLogprobs:
    """Of completions the token itself is always among the best: up to `num_top` + 1 are told.

    Args:
        text_offsets: Of each position's token, in characters of the choice's text.
        first_token: The text of one that has no log-probability.
        names_ids: Tokens are written by their ids (vLLM's `return_tokens_as_token_ids`).
    """

    def name(token_id: int, logprob: Logprob) -> str:
        return f"token_id:{token_id}" if names_ids else token_name(logprob, "bytes:")

    told = CompletionLogprobs([], [], [], list(text_offsets))
    for position in positions:
        if position is None:
            told.tokens.append(first_token)
            told.token_logprobs.append(None)
            told.top_logprobs.append(None)
            continue
        own_id, own = next(iter(position.items()))
        shown = {own_id: own, **best_ranked(position, num_top)}
        told.tokens.append(name(own_id, own))
        told.token_logprobs.append(own.logprob)
        top: dict[str, float] = {}
        for token_id, logprob in shown.items():
            # Of tokens with one text, as a character and its byte have, the first is told: the own one.
            top.setdefault(name(token_id, logprob), logprob.logprob)
        told.top_logprobs.append(top)
    return told


def prompt_logprobs(positions: Sequence[Position], num_top: int) -> PromptLogprobs:
    """In vLLM's form, the token itself and `num_top` of the best ones for each of the prompt's tokens."""
    told: PromptLogprobs = []
    for position in positions:
        if position is None:
            told.append(None)
            continue
        own_id, own = next(iter(position.items()))
        shown = {own_id: own, **best_ranked(position, num_top)}
        told.append(
            {
                token_id: PromptLogprob(one.logprob, one.rank, one.decoded_token)
                for token_id, one in shown.items()
            }
        )
    return told


def check_prompt_scores(name: str, count: int | None, num_tokens: int) -> None:
    """Scored prompts make answers far longer than requests are. Raises `ApiError`.

    Args:
        count: Of the best ones that are told of each token; None tells none.
        num_tokens: Of all prompts, as often as they are told.
    """
    if count is not None and num_tokens * (1 + count) > _MAX_SCORES:
        raise invalid_value(
            name,
            f"{name} is {count}, for {num_tokens} tokens of prompts, n times each: at most {_MAX_SCORES} "
            "log-probabilities are told in one answer. Send fewer prompts at a time.",
        )


def check_prompt_logprobs(count: int | None, *, is_stream: bool) -> None:
    """Raises `InvalidParameterError`, and `ApiError` for a stream, which tells none."""
    if count is None:
        return
    check_number("prompt_logprobs", count, 0, MAX_LOGPROBS, is_whole=True)
    if is_stream:
        raise unsupported("prompt_logprobs", "a stream does not tell them. Leave out stream.")


def echo_offsets(
    text: str, token_ids: Sequence[int], tokenizer: Tokenizer, vocabulary: Vocabulary
) -> list[int]:
    """Where each of a prompt's tokens begins in its text.

    Exact where the tokens spell the text. A special token that the tokenizer added, and does not show, has no
    length; where the tokenizer rewrites texts (lower case, say) the lengths are those of its own.
    """
    detokenizer = IncrementalDetokenizer(tokenizer.backend, [], skip_special_tokens=True)
    offsets, place = [], 0
    for token_id in token_ids:
        offsets.append(place)
        special = vocabulary.special.get(token_id)
        if special is None:
            place = min(len(text), place + len(detokenizer.push(token_id)))
        elif text.startswith(special, place):
            place += len(special)
    return offsets
