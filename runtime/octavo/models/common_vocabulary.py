"""Common vocabulary of two models: a model that gives no more tokens than another one knows.

Checkpoints of one tokenizer pad their tables to different numbers of rows (Qwen2.5 to 151,936 and to
152,064), which no token has. A draft model must not guess such a row that the model has not.
"""

from __future__ import annotations

import dataclasses

import torch

from octavo.layers.step import Step
from octavo.models.base import CausalLM
from octavo.models.spec import ModelSpec


class CommonVocabulary:
    """See `CausalLM`.

    Args:
        num_tokens: Those that it gives and takes, the first of the model's own.
    """

    def __init__(self, model: CausalLM, num_tokens: int) -> None:
        self._model = model
        self._spec = dataclasses.replace(model.spec, vocab_size=num_tokens)

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        return self._model.forward(token_ids, caches, step)

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        return self._model.normalise(residual)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._model.logits(hidden)[:, : self._spec.vocab_size].contiguous()


def with_common_vocabulary(model: CausalLM, num_tokens: int) -> CausalLM:
    """The model itself where it has no more tokens."""
    return model if model.spec.vocab_size <= num_tokens else CommonVocabulary(model, num_tokens)
