"""Completions: the sequences that one request becomes, which share its prompt and differ in their draws."""

from __future__ import annotations

from collections.abc import Iterable

from octavo.engine.grammars import CompiledGrammar
from octavo.engine.messages import AddRequest
from octavo.engine.request_checks import needs_room
from octavo.engine.requests.end_conditions import end_tokens
from octavo.engine.requests.prompt_scores import PromptScores
from octavo.engine.requests.sequence import Sequence
from octavo.engine.requests.siblings import SiblingGroup


def open_completions(
    request: AddRequest,
    sequence_ids: Iterable[int],
    *,
    max_model_len: int,
    vocab_size: int,
    grammar: CompiledGrammar | None,
) -> list[Sequence]:
    """One for each of `sequence_ids`, by completion index.

    Args:
        request: Passed `check_request`.
        max_model_len: Tokens of prompt and output, which bounds the output.
        vocab_size: Of the model's table.
        grammar: What the request wants its output to follow.
    """
    params, prompt = request.sampling, request.prompt_token_ids
    room = max_model_len - len(prompt) + (not needs_room(request))
    longest = room if params.max_tokens is None else max(1, params.max_tokens)
    group = SiblingGroup() if params.n > 1 else None
    ends = end_tokens(params, request.end_token_ids, vocab_size)
    num_best = params.prompt_logprobs
    return [
        Sequence(
            sequence_id=sequence_id,
            request_id=request.request_id,
            index=index,
            prompt_token_ids=prompt,
            params=params,
            max_output_tokens=min(longest, room),
            priority=request.priority,
            tenant=request.tenant,
            is_pooled=request.is_pooled,
            second_segment=request.second_segment,
            cache_salt=request.cache_salt,
            adapter_id=request.adapter_id,
            group=group,
            end_token_ids=ends,
            grammar=None if grammar is None else grammar.start(),
            prompt_scores=None if num_best is None else PromptScores(prompt, num_best),
        )
        for index, sequence_id in enumerate(sequence_ids)
    ]
