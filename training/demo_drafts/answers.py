"""Answers that the demo model gives to questions of its own kind: what whoever guesses for it learns from.

They are the model's words and not the training set's, so that what it gets wrong is guessed as it says it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from octavo import LLM, SamplingParams
from training.demo_model.conversations import Mixture, draw_sample
from training.demo_model.samples import Conversation

MODEL = "builtin://demo"
MIXTURE = Mixture(plain_text=0.0, tools=0.15, filler=0.05)
_MOST_PROMPT_TOKENS = 192
_MOST_ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """Token ids of a prompt with its answer; `start` is where the answer begins."""

    token_ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class AnswerBatch:
    """`token_ids` [rows, tokens] int64, filled up with 0; `learnt` [rows, tokens] bool: of answers."""

    token_ids: Tensor
    learnt: Tensor


def draw_prompts(tokenizer: PreTrainedTokenizerFast, seed: str, count: int) -> list[list[int]]:
    """So many prompts of different conversations, as token ids that end where the answer begins."""
    rng = Random(f"drafts:{seed}")
    prompts: list[list[int]] = []
    while len(prompts) < count:
        sample = draw_sample(rng, MIXTURE)
        if not isinstance(sample, Conversation):
            continue
        text = tokenizer.apply_chat_template(
            sample.messages[:-1],
            tools=sample.tools or None,
            tokenize=False,
            add_generation_prompt=True,
        )
        ids = list(tokenizer.encode(text, add_special_tokens=False, verbose=False))
        if len(ids) <= _MOST_PROMPT_TOKENS:
            prompts.append(ids)
    return prompts


def own_answers(prompts: Sequence[list[int]]) -> list[Answer]:
    """What the model says greedily, its end mark included."""
    params = SamplingParams(temperature=0.0, max_tokens=_MOST_ANSWER_TOKENS)
    with LLM(MODEL, max_num_seqs=64, kv_cache_memory="64Mi") as llm:
        outputs = llm.generate(list(prompts), params)
    return [
        Answer([*prompt, *output.outputs[0].token_ids], len(prompt))
        for prompt, output in zip(prompts, outputs, strict=True)
    ]


def batches(answers: Sequence[Answer], seed: int, tokens: int, steps: int) -> Iterator[AnswerBatch]:
    """`steps` batches of answers of about one length, with `tokens` tokens each."""
    rng = Random(f"batches:{seed}")
    ordered = sorted(answers, key=lambda answer: len(answer.token_ids))
    for _ in range(steps):
        first = rng.randrange(len(ordered))
        rows = max(1, tokens // len(ordered[first].token_ids))
        yield _batch(ordered[max(0, first - rows // 2) :][:rows])


def _batch(answers: Sequence[Answer]) -> AnswerBatch:
    width = max(len(answer.token_ids) for answer in answers)
    token_ids = torch.zeros(len(answers), width, dtype=torch.int64)
    learnt = torch.zeros(len(answers), width, dtype=torch.bool)
    for row, answer in enumerate(answers):
        length = len(answer.token_ids)
        token_ids[row, :length] = torch.tensor(answer.token_ids)
        learnt[row, answer.start : length] = True
    return AnswerBatch(token_ids, learnt)
