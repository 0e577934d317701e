"""Tables of the vocabulary as a checkpoint holds them: under which names, whether the head is that of the
embedding, and the embedding's rows."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from octavo.layers.linear import Lookup
from octavo.layers.projection import Projection
from octavo.loading import Placement, TextPart, WeightSource, WithoutPrefix, floating_tensors
from octavo.loading.renamed import Renamed
from octavo.models.base import BaseConfig, ModelConfig
from octavo.models.spec import Task
from octavo.quantization.forms import table_lookup

logger = logging.getLogger(__name__)


def whole_embedding(config: ModelConfig, source: WeightSource, placement: Placement) -> Lookup:
    """All rows of it, for what looks tokens up on one of the ranks that share the model."""
    table = config.tables.embedding
    name = f"{table.names[0]}.weight"
    (stored,) = floating_tensors(with_own_names(config, source), {name: table_shape(table)})
    return table_lookup(placement.put(stored))


def without_missing_head(config: ModelConfig, source: WeightSource) -> ModelConfig:
    """The config, of a model that embeds where the checkpoint was saved without the head that its class has;
    names alone are asked for."""
    head = config.tables.head
    if head is None or not _is_saved_without_head(config, source):
        return config
    logger.warning(
        "The checkpoint holds no %s.weight, as it was saved without a head: the model embeds, and cannot "
        "generate.",
        head.names[0],
    )
    return replace(config, spec=replace(config.spec, task=Task.EMBED))


def with_stored_head(config: ModelConfig, source: WeightSource) -> ModelConfig:
    """The config, with a head of its own where the checkpoint holds one that is not the embeddings' copy, and
    as `without_missing_head`: what is stored counts, as in transformers, whose own modules see to it
    themselves."""
    config = without_missing_head(config, source)
    tables = config.tables
    if tables.head is None:
        return config
    if not has_head_beside_tie(config, source):
        return config
    source = with_own_names(config, source)
    name, table = (f"{one.names[0]}.weight" for one in (tables.head, tables.embedding))
    shape = table_shape(tables.head)
    stored, embedding = floating_tensors(source, {name: shape, table: shape})
    both = torch.promote_types(stored.dtype, embedding.dtype)  # a rounded copy is another head
    if torch.equal(stored.to(both), embedding.to(both)):
        return config
    return replace(config, is_tied=False)


def _is_saved_without_head(config: ModelConfig, source: WeightSource) -> bool:
    """Whether its names are those of the class without a head (Qwen3-Embedding-8B, which names the class with
    one), and there is neither a head nor a tie to make one of."""
    tables = config.tables
    if tables.head is None or tables.is_tied or config.is_generic:
        return False
    head = f"{tables.head.names[0]}."
    return _lacks_prefix(config, source) and not any(
        name.startswith(head) for name in source.names()
    )


def has_head_beside_tie(config: ModelConfig, source: WeightSource) -> bool:
    """Whether a head is stored that config.json calls the embeddings' own; names alone are asked for."""
    tables = config.tables
    if tables.head is None or not tables.is_tied or config.keeps_tables:
        return False
    if _holds_head_alone(config, source):
        return False
    return with_own_names(config, source).has(f"{tables.head.names[0]}.weight")


def with_own_names(config: BaseConfig, source: WeightSource) -> WeightSource:
    """The source by the names that the family uses: a checkpoint may leave their prefix out, and of two tied
    tables it may hold either."""
    if config.is_text_part:
        return TextPart(source)
    if _lacks_prefix(config, source):
        return WithoutPrefix(source, config.prefix)
    tables = config.tables
    if tables.head is not None and _holds_head_alone(config, source):
        return Renamed(source, f"{tables.embedding.names[0]}.", f"{tables.head.names[0]}.")
    return source


def _holds_head_alone(config: BaseConfig, source: WeightSource) -> bool:
    """Of two tied tables: safetensors' own writer keeps the one whose name comes first."""
    tables = config.tables
    if tables.head is None or not tables.is_tied or config.is_generic or config.is_text_part:
        return False
    embedding, head = (f"{one.names[0]}.weight" for one in (tables.embedding, tables.head))
    return source.has(head) and not source.has(embedding)


def _lacks_prefix(config: BaseConfig, source: WeightSource) -> bool:
    embedding = f"{config.tables.embedding.names[0]}.weight"
    return not source.has(embedding) and source.has(embedding.removeprefix(config.prefix))


def table_shape(projection: Projection) -> tuple[int, int]:
    """As the checkpoint has it."""
    return projection.width, projection.in_features
