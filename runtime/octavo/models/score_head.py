"""Score head of a cross-encoder: what sequence classification with one label computes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.layers.linear import Linear
from octavo.layers.pooling import pool
from octavo.layers.projection import Projection, Shard
from octavo.loading.pooling import PoolingMode
from octavo.models.config_reader import ConfigReader
from octavo.models.spec import ModelSpec

# A missing id2label means two labels to transformers.
_DEFAULT_LABELS = 2
_PACKAGE = "torch.nn."
_POOLINGS = {"cls": PoolingMode.CLS, "mean": PoolingMode.MEAN}


class ScoreActivation(enum.Enum):
    """Of the score, by the names of torch's modules, which sentence-transformers writes down."""

    IDENTITY = "Identity"
    SIGMOID = "Sigmoid"


@dataclass(frozen=True, slots=True)
class ScoreHead:
    """`activation(out(between(dense(x))))` of sequences, `x` being the hidden states of each pooled.

    Args:
        dense: BERT's pooler, the first product of others' heads.
        between: What stands between the products: tanh, or an activation and a norm.
    """

    dense: Linear
    out: Linear
    activation: ScoreActivation
    between: Callable[[torch.Tensor], torch.Tensor] = torch.tanh
    pooling: PoolingMode = PoolingMode.CLS

    def __call__(self, hidden: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """`[sequences, 1]`, float32, of `[tokens, hidden]` and the sequences' lengths."""
        x = pool(hidden, lengths, self.pooling).to(hidden.dtype)
        scores = self.out(self.between(self.dense(x))).float()
        return scores.sigmoid() if self.activation is ScoreActivation.SIGMOID else scores


def score_projections(
    spec: ModelSpec, dense: str, out: str, *, dense_bias: bool = True
) -> tuple[Projection, Projection]:
    """A head's products, by the prefixes of their parameters."""
    width = spec.hidden_size
    return (
        Projection((dense,), width, (width,), bias=dense_bias, shard=Shard.WHOLE),
        Projection((out,), width, (1,), bias=True, shard=Shard.WHOLE),
    )


def read_score_activation(reader: ConfigReader) -> ScoreActivation:
    """As sentence-transformers' CrossEncoder chooses it: what its fields name, else a sigmoid.

    Raises `ModelUnsupportedError` for another function, and for more than one label.
    """
    num_labels = _num_labels(reader)
    if num_labels != 1:
        raise ModelUnsupportedError(
            f"config.json: id2label names {num_labels} labels; implemented is 1, the score of a pair."
        )
    own: Any = reader.get("sentence_transformers") or {}
    if not isinstance(own, dict):
        raise ModelInvalidError(
            f"config.json: sentence_transformers is {own!r}; it must be an object."
        )
    older = reader.get("sbert_ce_default_activation_function")
    name = own.get("activation_fn") or older
    if name is None:
        return ScoreActivation.SIGMOID
    function = str(name).rpartition(".")[2]
    # By another package's name it is that package's code, of which nothing is known.
    if str(name).startswith(_PACKAGE) and function in {one.value for one in ScoreActivation}:
        return ScoreActivation(function)
    raise ModelUnsupportedError(
        f"The score's activation, as the checkpoint names it, is {name!r:.100}; implemented are "
        f"{', '.join(_PACKAGE + one.value for one in ScoreActivation)}."
    )


def read_score_pooling(reader: ConfigReader) -> PoolingMode:
    """Raises `ModelUnsupportedError` for one that is not implemented."""
    name = reader.get("classifier_pooling") or "cls"
    if name not in _POOLINGS:
        raise ModelUnsupportedError(
            f"config.json: classifier_pooling is {name!r}; implemented are {', '.join(_POOLINGS)}."
        )
    return _POOLINGS[name]


def _num_labels(reader: ConfigReader) -> int:
    labels = reader.get("id2label")
    if isinstance(labels, dict):
        return len(labels)
    return reader.integer("num_labels", _DEFAULT_LABELS)
