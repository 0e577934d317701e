"""Training batches: conversations packed end to end into rows, with the loss on answers only.

Packing wastes no compute on padding, and what stands left of a conversation is another one: the
model learns to answer the last question whatever came before, at any position. A batch depends on
(seed, step) alone, so that a training that resumes sees the same data.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.demo_model.conversations import Mixture, draw_sample
from training.demo_model.samples import Conversation, PlainText
from training.demo_model.tokenizer import ASSISTANT, END, PAD

ROW_TOKENS = (128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Batch:
    """`input_ids` [rows, tokens] int64; `loss_mask` [rows, tokens] bool: tokens to be learnt."""

    input_ids: Tensor
    loss_mask: Tensor


@dataclass(frozen=True, slots=True)
class Blend:
    """What batches are made of: kinds of samples, and how often each of ROW_TOKENS is drawn."""

    mixture: Mixture
    row_weights: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: list[int]
    learnt: list[bool]


class BatchMaker:
    """Makes batch number `step` of the training with `seed`."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._tokens = tokens
        self._assistant = int(tokenizer.convert_tokens_to_ids(ASSISTANT))
        self._end = int(tokenizer.convert_tokens_to_ids(END))
        self._pad = int(tokenizer.convert_tokens_to_ids(PAD))

    def make(self, step: int, blend: Blend) -> Batch:
        """About `tokens` tokens in rows of one length, which the step draws."""
        rng = Random(f"batch:{self._seed}:{step}")
        length = rng.choices(ROW_TOKENS, weights=blend.row_weights)[0]
        rows = [
            self._row(rng, length, blend.mixture) for _ in range(max(1, self._tokens // length))
        ]
        return Batch(
            torch.tensor([row.ids for row in rows]),
            torch.tensor([row.learnt for row in rows]),
        )

    def _row(self, rng: Random, length: int, mixture: Mixture) -> _Encoded:
        """Whole samples until one does not fit, then padding that is not learnt."""
        ids: list[int] = []
        learnt: list[bool] = []
        misses = 0
        while misses < 2:
            sample = self.encode(draw_sample(rng, mixture))
            if len(ids) + len(sample.ids) > length:
                misses += 1
                continue
            ids += sample.ids
            learnt += sample.learnt
        padding = length - len(ids)
        return _Encoded(ids + [self._pad] * padding, learnt + [False] * padding)

    def encode(self, sample: Conversation | PlainText) -> _Encoded:
        """Tokens of a sample; learnt are the assistant's words with the end mark after them, but
        for what the sample says to be given."""
        if isinstance(sample, PlainText):
            prompt = self._ids(sample.prompt)
            rest = [*self._ids(sample.rest), self._end]
            return _Encoded(prompt + rest, [False] * len(prompt) + [True] * len(rest))
        text = self._tokenizer.apply_chat_template(
            sample.messages, tools=sample.tools or None, tokenize=False
        )
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, learnt = list(encoding["input_ids"]), self._answer_mask(encoding["input_ids"])
        answer = text.rindex(ASSISTANT) + len(ASSISTANT)
        for index, (start, _) in enumerate(encoding["offset_mapping"]):
            if (start < answer and sample.only_last) or any(
                first <= start - answer < end for first, end in sample.given
            ):
                learnt[index] = False
        return _Encoded(ids, learnt)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def _answer_mask(self, ids: list[int]) -> list[bool]:
        mask, in_answer = [], False
        for token in ids:
            mask.append(in_answer)
            if token == self._assistant:
                in_answer = True
            elif token == self._end:
                in_answer = False
        return mask
