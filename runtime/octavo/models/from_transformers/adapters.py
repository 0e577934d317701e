"""Adapters of transformers' modules: which of them adapters change, and what the others are.

Octavo's products, which stand in for linear modules, take adapters as they do in families of our own, under
transformers' names, which are those of PEFT's files. All else is left alone and refused by what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from octavo.errors import InvalidConfigurationError
from octavo.models.adapters import ModelAdapters
from octavo.models.from_transformers.outline import Outline
from octavo.models.from_transformers.stand_ins import LookupModule, ProductModule
from octavo.option_pairs import MERGE_INSTEAD

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OTHER_ROWS = "a linear module that is called with other rows than one for each token"


def leave_others_alone(model: PreTrainedModel, outline: Outline, adapters: ModelAdapters) -> None:
    """Of the modules of a model that was just loaded. Raises `InvalidConfigurationError` where adapters would
    change none."""
    if not adapters.modules:
        raise InvalidConfigurationError(
            f"enable_lora is set, but this checkpoint of {type(model).__name__} stores no linear module as "
            f"transformers' modules have it, so that adapters could change it. {MERGE_INSTEAD}"
        )
    experts = {layer.path for layer in outline.experts}
    for path, module in model.named_modules():
        what = "the experts of a layer" if path in experts else _what(path, module, outline)
        if what is not None and path not in adapters.modules:
            adapters.leave_alone(path, what)


def _what(path: str, module: torch.nn.Module, outline: Outline) -> str | None:
    """None: it has no weights of its own."""
    if path == outline.head:
        return "the head"
    if isinstance(module, LookupModule | torch.nn.Embedding):
        return "an embedding"
    if isinstance(module, ProductModule):
        is_behind = not path.startswith(f"{outline.base}.")
        return "a linear module behind the layers" if is_behind else OTHER_ROWS
    if type(module) is torch.nn.Linear:
        return (
            "a linear module that is a router, is stored in parts, or is read by more than its call"
        )
    has_weights = bool(module._parameters)  # noqa: SLF001 (torch's own name)
    return f"a module of the class {type(module).__name__}" if has_weights else None


@contextmanager
def seen_rows(
    model: torch.nn.Module, paths: Iterable[str], poisoned: int, count: int
) -> Iterator[set[str]]:
    """Paths of the modules that are called with a row for each of `count` tokens, of which the poisoned one
    alone holds NaN. It is complete when this closes."""
    seen: set[str] = set()

    def look(path: str, given: torch.Tensor) -> None:
        rows = given.reshape(-1, given.shape[-1]).isnan().any(dim=-1)
        if len(rows) == count and rows.nonzero().flatten().tolist() == [poisoned]:
            seen.add(path)

    hooks = [
        model.get_submodule(path).register_forward_pre_hook(
            lambda _, given, path=path: look(path, given[0])
        )
        for path in paths
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
