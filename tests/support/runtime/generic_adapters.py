"""Adapters of a model, also of one that runs by transformers' modules, and transformers with each merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from octavo.config import ModelImplementation
from octavo.models.registry import read_model_config
from octavo.worker.batch import Executor
from tests.support.runtime.adapters import save_adapter, targets_of
from tests.support.runtime.served_answers import assert_as_transformers, serve

MAX_RANK = 20


def adaptable_modules(
    folder: Path, model: Any, implementation: ModelImplementation = ModelImplementation.AUTO
) -> list[str]:
    """Those that adapters may change, in the model's order.

    Args:
        model: transformers' own, in the folder.
    """
    config = read_model_config(folder, implementation)
    if not config.is_generic:
        return targets_of(model)
    return [name for one in config.adaptable_projections() for name in one.names]


def other_modules(model: Any, adaptable: list[str]) -> list[str]:
    """Names, as the last two of paths, of linear modules beside the head that adapters do not change."""
    head = model.get_output_embeddings()
    found = {
        ".".join(name.split(".")[-2:])
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not head
        and name not in adaptable
    }
    return sorted(found)


def save_adapters(
    work: Path, model: Any, names: list[str]
) -> tuple[dict[int, Path], dict[int, Any]]:
    """Of every module, and of some with ranks and scales of their own: folders by id, and the models that
    they are merged into, of which 0 is the base."""
    first, last = names[0].rpartition(".")[2], names[-1]
    folders = {1: work / "every", 2: work / "some"}
    every = save_adapter(folders[1], model, rank=3, seed=1, picks=names.__contains__)
    some = save_adapter(
        folders[2],
        model,
        rank=8,
        seed=2,
        # Of products side by side one alone.
        picks=lambda name: name in names and (name.rpartition(".")[2] == first or name == last),
        use_rslora=True,
        rank_pattern={last: MAX_RANK},
        alpha_pattern={first: 5},
    )
    return folders, {0: model, 1: every, 2: some}


def assert_as_merged(
    base: Path, executor: Executor, vocab: int, adapters: dict[int, Path], models: dict[int, Any]
) -> None:
    """Of requests with each adapter and without, in the same batches, whose prompts all begin alike."""
    answers = serve(base, executor, vocab, adapters)
    for adapter_id, merged in models.items():
        own = [one for one in answers if one.adapter_id == adapter_id]
        assert_as_transformers(own, merged)
        other = models[(adapter_id + 1) % len(models)]
        change = own[0].expected(merged) - own[0].expected(other)
        assert change.abs().max() > 0.05, "an adapter that nobody would notice"
