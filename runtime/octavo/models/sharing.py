"""Sharing of a model between ranks (tensor parallelism): whether so many can, from config.json alone.

How its products are cut follows from each `Projection`; see `ModelBuilder`.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.errors import InvalidConfigurationError
from octavo.layers.projection import Projection, Shard, share_of
from octavo.models.base import BaseConfig
from octavo.models.spec import ModelSpec

_MOST = 64


def check_sharing(model: BaseConfig, size: int) -> None:
    """Raises `InvalidConfigurationError` where `size` ranks cannot share the model."""
    if size == 1:
        return
    if model.sharing_problem is not None:
        raise InvalidConfigurationError(
            f"tensor_parallel_size is {size}, and {model.spec.architecture} runs by transformers' own "
            f"modules, which ranks cannot share: {model.sharing_problem}. Use --tensor-parallel-size 1, or a "
            "model that Octavo's own code runs."
        )
    problem = _problem(model, _rows(model), size)
    if problem is None:
        return
    fitting = ", ".join(map(str, sizes_that_share(model)))
    raise InvalidConfigurationError(
        f"tensor_parallel_size is {size}, but {problem}. Use one of {fitting}."
    )


def sizes_that_share(model: BaseConfig) -> list[int]:
    """Numbers of ranks that can, ascending from 1."""
    if model.sharing_problem is not None:
        return [1]
    rows = _rows(model)
    return [one for one in range(1, _MOST + 1) if _problem(model, rows, one) is None]


def _rows(model: BaseConfig) -> list[Projection]:
    """Products that are cut by inputs, one of each kind: a mixture has thousands."""
    every = model.projections()
    kinds = {(one.in_features, one.group): one for one in reversed(every) if one.shard is Shard.ROW}
    return list(kinds.values())


def _problem(model: BaseConfig, rows: Sequence[Projection], size: int) -> str | None:
    """What is in the way of `size` ranks, as in config.json.

    Args:
        rows: See `_rows`.
    """
    heads = _problem_of_heads(model.spec, size)
    if heads is not None:
        return heads
    for projection in rows:
        if not projection.own_inputs(size - 1, size):
            return f"{projection.names[0]} has {projection.in_features} inputs: none for the last"
    if not share_of(model.spec.vocab_size, size - 1, size):
        return f"vocab_size is {model.spec.vocab_size}: no token for the last"
    return None


def _problem_of_heads(spec: ModelSpec, size: int) -> str | None:
    if not spec.shares_heads:
        return None
    if spec.num_heads % size:
        return f"the model has {spec.num_heads} attention heads, which it must divide"
    if spec.num_kv_heads % size and size % spec.num_kv_heads:
        return f"the model has {spec.num_kv_heads} key-value heads, which it must divide or be a multiple of"
    return None
