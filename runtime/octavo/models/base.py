"""Contracts of a model: what config.json makes of it, and what the worker runs.

The worker knows these alone. A family implements them in one file of `octavo.models.families`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import torch

from octavo.kernels.protocols.layers import Kernels
from octavo.layers.encoder_attention import EncoderStep
from octavo.layers.projection import Projection, Shard
from octavo.layers.step import Step
from octavo.models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from octavo.models.building import ModelBuilder

# Old checkpoints carry rotary tables as tensors; ours are computed.
_ROTARY_TABLES = re.compile(r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)")
# Calibrated for an FP8 KV cache; what is kept in one here needs none.
_CACHE_SCALES = re.compile(r".*\.(q|k|v|kv|prob)_(scale|zero_point)")

_HEADS = ("lm_head.", "embed_out.")


class CausalLM(Protocol):
    """A decoder over a paged KV cache. The worker picks rows between `forward`, `normalise` and `logits`."""

    @property
    def spec(self) -> ModelSpec: ...

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        """The residual stream after all layers.

        Args:
            token_ids: `[tokens]` int64.
            caches: KV cache of each layer; see `octavo.kernels.paged_attention`.

        Returns `[tokens, hidden]`, to be given to `normalise`.
        """
        ...

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        """The last hidden state, `[rows, hidden]`, of rows of the residual stream."""
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the next token, `[rows, vocab]`, for rows of the last hidden state. A model whose task is
        to embed gives zeros."""
        ...


class Encoder(Protocol):
    """Whole sequences at once, each token seeing all others of its own: there is no KV cache."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def head(self) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None:
        """Scores `[sequences, 1]`, float32, of the last hidden states, `[tokens, hidden]`, and the sequences'
        lengths. None: the model embeds."""
        ...

    def forward(self, token_ids: torch.Tensor, step: EncoderStep) -> torch.Tensor:
        """The last hidden state, `[tokens, hidden]`, of `[tokens]` int64; the step says where sequences
        begin."""
        ...


@dataclass(frozen=True, slots=True)
class Tables:
    """The matrices of the vocabulary, `[vocab, hidden]` each.

    Args:
        head: Scores the vocabulary; None where the checkpoint's class has none.
        is_tied: It is the embedding's.
        tied_bias: What a checkpoint calls the bias of a tied head; None: as the head's parameter.
    """

    embedding: Projection
    head: Projection | None
    is_tied: bool
    tied_bias: str | None = None

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        *,
        embedding: str,
        head: str | None,
        is_tied: bool = False,
        head_bias: bool = False,
        tied_bias: str | None = None,
    ) -> Tables:
        """By the prefixes of their parameters; a model that embeds has no head."""
        if spec.task is not Task.GENERATE:
            head = None

        def table(name: str, bias: bool) -> Projection:
            return Projection(
                (name,), spec.hidden_size, (spec.vocab_size,), bias=bias, shard=Shard.COLUMN
            )

        own = None if head is None else table(head, head_bias)
        return cls(table(embedding, bias=False), own, is_tied, tied_bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig(ABC):
    """What config.json says of a model of any kind.

    Attributes:
        is_text_part: The checkpoint holds other parts, too; see `octavo.models.text_part`.
        prefix: What the names of all parameters but the head's begin with; a model that was saved without
            its head has names without it.
        is_generic: transformers' modules compute it.
        per_layer: Fields that hold a value for each layer.
    """

    prefix: ClassVar[str] = "model."
    is_generic: ClassVar[bool] = False
    per_layer: ClassVar[tuple[str, ...]] = ()

    spec: ModelSpec
    is_text_part: bool = False

    @property
    @abstractmethod
    def tables(self) -> Tables: ...

    @abstractmethod
    def projections(self) -> list[Projection]:
        """The products of all layers. Routers are none of them: they are read in full precision."""

    def adaptable_projections(self) -> list[Projection]:
        """Those that adapters may change: all of a step's rows are multiplied by them."""
        return [one for one in self.projections() if not one.is_routed]

    @property
    def adapter_prefix(self) -> str:
        """What an adapter leaves out of modules' names that was trained on the model without its head."""
        return self.prefix

    def kept_projections(self) -> list[Projection]:
        """Further matrices, which stay in the activations' dtype whatever scheme there is."""
        return []

    @property
    def sharing_problem(self) -> str | None:
        """Why no ranks can share it, whatever their number; None: some can."""
        return None

    @property
    def keeps_tables(self) -> bool:
        """Whether embedding and head stay so, too."""
        return False

    @property
    def num_parameters(self) -> int:
        """Weights of the matrices; biases, norms and routers left out."""
        tables = self.tables
        table = tables.embedding.num_weights
        count = 1 if tables.head is None or tables.is_tied else 2
        matrices = (*self.projections(), *self.kept_projections())
        return sum(one.num_weights for one in matrices) + count * table

    @property
    def layer_kinds(self) -> list[tuple[Hashable, ...]]:
        """Of each layer, all that it differs in from others."""
        fields = (getattr(self, name) for name in self.per_layer)
        return list(zip(self.spec.windows, *fields, strict=True))

    def with_layers(self, kept: Sequence[int]) -> Self:
        """The same model with these of its layers alone, counted anew."""
        few: dict[str, Any] = {
            name: tuple(getattr(self, name)[i] for i in kept) for name in self.per_layer
        }
        return replace(self, spec=self.spec.with_layers(kept), **few)

    def ignores(self, name: str) -> bool:
        """Whether a checkpoint may hold this parameter though the model does not need it."""
        has_no_head = self.tables.head is None and name.startswith(_HEADS)
        unneeded = (_ROTARY_TABLES, _CACHE_SCALES)
        return has_no_head or any(one.fullmatch(f".{name}") for one in unneeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(BaseConfig):
    """Of a decoder; each family adds what its own layers need.

    Args:
        is_tied: The head is the embeddings' table.
    """

    is_tied: bool

    def with_kernels(self, kernels: Kernels) -> Self:
        """As a device with these kernels runs it."""
        return self

    @property
    def recording_problem(self) -> str | None:
        """Why its decode steps cannot be recorded as CUDA graphs; None: they can."""
        return None

    @abstractmethod
    def build(self, load: ModelBuilder) -> CausalLM: ...

    def check(self, model: CausalLM, load: ModelBuilder) -> None:
        """What `build` gave, once its weights are known to be the checkpoint's. Raises
        `ModelUnsupportedError` where it would not compute what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig(BaseConfig):
    """Of an encoder; each family adds what its own layers need."""

    @abstractmethod
    def build(self, load: ModelBuilder) -> Encoder: ...
