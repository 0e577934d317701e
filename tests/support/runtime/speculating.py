"""Engines whose guesses come from the answers without guesses, with mistakes, so that some come true and some
do not; and what requests of all kinds ask of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from octavo import LLM, SamplingParams
from octavo.engine.core import EngineCore
from octavo.engine.requests.sequence import Sequence as EngineSequence
from octavo.engine.speculation.proposal import Proposal, Proposer
from octavo.engine.speculation.speculation import Speculation
from octavo.outputs import RequestOutput
from octavo.structured_outputs import StructuredOutputsParams
from tests.support.runtime.llm_on_llama import KV_BYTES_PER_TOKEN

PROMPTS = [[5, 9, 5, 9, 5, 9], [7] * 40, list(range(60, 92)), list(range(60, 95))]
DRAFTS = 4


class Recorded:
    """A proposer that has the answers, and changes one token in so many."""

    num_kinds = 1
    is_free = True

    def __init__(self, answers: Mapping[tuple[tuple[int, ...], int], Sequence[int]]) -> None:
        self.random = random.Random(1)  # noqa: S311
        self.answers = answers

    @classmethod
    def of(cls, outputs: list[RequestOutput]) -> Recorded:
        return cls(
            {
                (tuple(one.prompt_token_ids), completion.index): completion.token_ids
                for one in outputs
                for completion in one.outputs
            }
        )

    def propose(self, sequence: EngineSequence) -> Proposal | None:
        answer = self.answers[tuple(sequence.prompt_token_ids), sequence.index]
        guesses = list(answer[len(sequence.output_token_ids) :][:DRAFTS])
        wrong = self.random.randrange(2 * DRAFTS)
        if wrong < len(guesses):
            guesses[wrong] = abs(guesses[wrong] - 1)  # one that the model has
        return Proposal(guesses) if guesses else None

    def forget(self, sequence_id: int) -> None:
        pass


def open_llm(folder: Any, num_kv_tokens: int, **options: Any) -> LLM:
    return LLM(
        str(folder),
        dtype="float32",
        device="cpu",
        kv_cache_memory_bytes=num_kv_tokens * KV_BYTES_PER_TOKEN,
        **options,
    )


CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "greedy with logprobs": {"temperature": 0.0, "logprobs": 3},
    "seeded": {"seed": 3},
    "n": {"seed": 3, "n": 3, "logprobs": 1},
    "filters": {"seed": 4, "temperature": 1.4, "top_k": 20, "top_p": 0.9, "min_p": 0.01},
    "penalties": {
        "seed": 5,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.3,
    },
    "bias": {"seed": 6, "logit_bias": {8: 4.0, 9: 4.0}, "bad_words": ["ab", "e"]},
    "allowed": {"temperature": 0.0, "allowed_token_ids": list(range(30, 60)), "logprobs": 0},
    "least length": {"seed": 7, "min_tokens": 20, "logit_bias": {0: 5.0}},
    "stop strings": {"seed": 8, "stop": ["e", "o", "1"], "min_tokens": 3},
    "stop tokens": {"seed": 9, "stop_token_ids": list(range(1, 30))},
    "prompt logprobs": {"temperature": 0.0, "prompt_logprobs": 1},
    "grammar": {
        "seed": 10,
        "structured_outputs": StructuredOutputsParams(regex="(ab|cd|efg){6,12}"),
    },
}


def speculating(llm: LLM, plain: list[RequestOutput]) -> Speculation:
    """From now on; see `guessing`."""
    assert llm._core is not None
    return guessing(llm._core, Recorded.of(plain))


def guessing(core: EngineCore, proposer: Proposer, max_drafts: int | None = None) -> Speculation:
    """From now on, with drafts that seem to cost nothing, from the first step on."""
    core._speculation = speculation = Speculation(
        proposer,
        DRAFTS,
        max_drafts=max_drafts or core.executor_info.max_drafts,
        overlaps=core.executor_info.is_asynchronous,
    )
    core._stopwatch = lambda: 0.0
    for num_sequences in range(1, 33):
        for _ in range(3):
            speculation._cost.observe(num_sequences, 0, 0.0)
    return speculation


def told(outputs: list[RequestOutput]) -> list[Any]:
    return [
        (one.token_ids, one.text, one.finish_reason, one.stop_reason, ids_and_ranks(one.logprobs))
        for output in outputs
        for one in output.outputs
    ] + [ids_and_ranks(output.prompt_logprobs) for output in outputs]


def ids_and_ranks(logprobs: Any) -> Any:
    if logprobs is None:
        return None
    return [{token: one.rank for token, one in (position or {}).items()} for position in logprobs]


def counts(llm: LLM) -> tuple[int, int]:
    """Drafts that ran since the start, and those that came true."""
    assert llm._core is not None
    stats = llm._core.stats()
    return (
        stats.spec_decode_draft_tokens_total,
        sum(stats.spec_decode_accepted_tokens_per_position),
    )


def assert_guesses_come_true_after_cached_answers(llm: LLM) -> None:
    """Of turns of a chat whose answers were made while nobody guessed: the model is its own draft, so that a
    guess is wrong only where it attends to what the draft never read."""
    core = llm._core
    assert core is not None
    core._stopwatch = lambda: 0.0
    speculation, chat = core._speculation, list(range(60, 80))
    params = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True)
    for guesses in (False, True, False, True):
        core._speculation = speculation if guesses else None
        before = counts(llm) if guesses else (0, 0)
        [output] = llm.generate([chat], params)
        if guesses:
            tried, accepted = (b - a for a, b in zip(before, counts(llm), strict=True))
            assert output.num_cached_tokens > len(chat) - 20  # the last answer, too
            assert accepted >= max(8, 0.99 * tried)
        chat += [*output.outputs[0].token_ids, 5, 6, 7]
