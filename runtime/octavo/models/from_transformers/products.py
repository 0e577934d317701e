"""Products of a transformers model: those of its linear modules that Octavo's own products can stand in for.

They are found while the model is run without values. Where a module's weight is read by nothing but its own
call, whatever multiplies may take its place; and those that one module calls with one input are one product,
whatever they are called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True, slots=True)
class LinearCall:
    """One call of a watched module.

    Args:
        version: Of the input: how often it had been written to.
    """

    module: torch.nn.Module
    given: torch.Tensor
    version: int


_CALLS: ContextVar[list[LinearCall]] = ContextVar("octavo_linear_calls")
_IS_CALLED, _IS_READ = "octavo_is_called", "octavo_is_read"


class _Watched(torch.nn.Module):
    """Writes its calls down, and whether anything beside them reads its weight."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        _CALLS.get().append(LinearCall(self, given, given._version))  # noqa: SLF001 (autograd's own name)
        self.__dict__[_IS_CALLED] = True
        try:
            found: torch.Tensor = super().forward(given)
        finally:
            self.__dict__[_IS_CALLED] = False
        return found

    def __getattr__(self, name: str) -> Any:
        if name == "weight" and not self.__dict__.get(_IS_CALLED):
            self.__dict__[_IS_READ] = True
        return super().__getattr__(name)


class WatchedLinear(_Watched, torch.nn.Linear):
    pass


class WatchedTransposed(_Watched, Conv1D):  # type: ignore[misc]
    pass


class WatchedEmbedding(_Watched, torch.nn.Embedding):
    pass


_WATCHED: dict[type[torch.nn.Module], type[_Watched]] = {
    torch.nn.Linear: WatchedLinear,
    Conv1D: WatchedTransposed,
    torch.nn.Embedding: WatchedEmbedding,
}


@contextmanager
def watched_linears(model: torch.nn.Module) -> Iterator[list[LinearCall]]:
    """Calls of the model's linear modules and embeddings while this is open. Classes that change what these
    do are left alone."""
    for module in model.modules():
        watched = _WATCHED.get(type(module))
        if watched is not None:
            module.__class__ = watched
    calls: list[LinearCall] = []
    token = _CALLS.set(calls)
    try:
        yield calls
    finally:
        _CALLS.reset(token)


def replaceable(calls: Iterable[LinearCall]) -> set[torch.nn.Module]:
    """Those that were called once, and whose weights nothing else reads."""
    counts = Counter(call.module for call in calls)
    return {
        module
        for module, count in counts.items()
        if count == 1 and not module.__dict__.get(_IS_READ)
    }


def with_token_rows(
    calls: Iterable[LinearCall],
    paths: dict[torch.nn.Module, str],
    *,
    within: str,
    num_tokens: int,
) -> frozenset[str]:
    """Paths of modules, those within another, that are called with a row for each token."""
    return frozenset(
        paths[call.module]
        for call in calls
        if call.given.shape[:-1].numel() == num_tokens
        and paths[call.module].startswith(f"{within}.")
    )


def find_products(
    calls: Iterable[LinearCall],
    paths: dict[torch.nn.Module, str],
    *,
    kept: Collection[torch.nn.Module],
    router_widths: Collection[int],
    attentions: Iterable[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """Paths of modules, those of one product together.

    Args:
        kept: Modules that are none.
        router_widths: Numbers of outputs by which routers are known, whose numbers nothing rounds.
        attentions: Paths of attention modules, in which there are no routers.
    """
    calls, within = list(calls), tuple(f"{path}." for path in attentions)
    free, groups = replaceable(calls) - set(kept), dict[tuple[object, ...], list[str]]()
    for call in calls:
        module = call.module
        sizes = _sizes(module)
        if module not in free or sizes is None:
            continue
        path, (inputs, outputs) = paths[module], sizes
        if outputs in router_widths and not path.startswith(within):
            continue
        parent, has_bias = path.rpartition(".")[0], module.bias is not None
        key = (id(call.given), call.version, parent, has_bias, inputs)
        groups.setdefault(key, []).append(path)
    return tuple(tuple(group) for group in groups.values())


def transposed(paths: dict[torch.nn.Module, str]) -> frozenset[str]:
    """Paths of linear modules whose weights lie `[inputs, outputs]` (GPT-2's)."""
    return frozenset(path for module, path in paths.items() if isinstance(module, Conv1D))


def _sizes(module: torch.nn.Module) -> tuple[int, int] | None:
    """Inputs and outputs; None: it is not linear."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    return None
