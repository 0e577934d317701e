"""Attention interface of transformers: what its modules call in place of their own attention.

Three names are registered there. Under `PAGED` a module's queries, keys and values go to the step's paged
attention; no mask is made, because the step knows what each row sees. Under `RECORDED` nothing is computed:
each call is written down, with the mask that the model made for it. Under `UNMIXED` each token keeps to
itself: what reaches another one then does so beside attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from octavo.layers.step import AttentionSpec, Step

PAGED = "octavo_paged"
RECORDED = "octavo_recorded"
UNMIXED = "octavo_unmixed"

_LAYER = "octavo_layer"
_MASK = "octavo_mask"
# Any other context is as good: functions of positions have no end.
_FAR = 100_000


@dataclass(slots=True)
class Running:
    """The step that the modules of one model are in.

    Args:
        calls: Of attention, in this step.
    """

    caches: list[torch.Tensor] = field(default_factory=list)
    step: Step | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True)
class PagedLayer:
    """What an attention module is bound to."""

    index: int
    spec: AttentionSpec
    running: Running

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        sinks: torch.Tensor | None,
    ) -> torch.Tensor:
        """Of `[1, heads, tokens, head_dim]` each, `[1, tokens, heads, head_dim]`.

        Args:
            sinks: See `AttentionOptions`, in any dtype.
        """
        running = self.running
        if running.step is None:
            raise RuntimeError("Attention was called outside of a step.")
        running.calls += 1
        heads = torch.cat([part[0].transpose(0, 1) for part in (query, key, value)], dim=1)
        spec = self.spec
        if sinks is not None:
            if len(sinks) != spec.num_heads:
                raise RuntimeError(
                    f"{len(sinks)} sinks are given for the {spec.num_heads} heads of a rank."
                )
            own = sinks.detach().to(torch.float32).contiguous()
            spec = replace(spec, options=replace(spec.options, sinks=own))
        out = running.step.attend(heads, running.caches[self.index], spec)
        return out.view(1, -1, self.spec.num_heads, self.spec.head_dim)


def bind(module: torch.nn.Module, layer: PagedLayer) -> None:
    setattr(module, _LAYER, layer)


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask that a model asked for.

    Args:
        sees: Of batch, head, query and key index, whether the query sees the key.
        window: How many keys up to its own a query sees, as far as the model says so; None: all.
    """

    sees: Callable[..., Any]
    window: int | None

    def is_as_said(self) -> bool:
        """Whether it is causal, within the window if there is one, and nothing besides."""
        zero = torch.tensor(0)
        width = self.window or _FAR
        rows = {0, 1, 2, 7, width - 1, width, width + 1, 2 * width - 1, 2 * width, 2 * width + 1}
        for row in rows:
            keys = {0, 1, row - width, row - width + 1, row - 1, row, row + 1}
            for key in keys:
                if key < 0:
                    continue
                expected = key <= row and (self.window is None or key > row - width)
                if bool(self.sees(zero, zero, torch.tensor(row), torch.tensor(key))) != expected:
                    return False
        return True


@dataclass(frozen=True, slots=True)
class Call:
    """One call of attention.

    Args:
        shapes: Of query, key and value.
        mask: None: the model gave none, or one that it made itself.
        others: Arguments beside those, as far as they are not None.
    """

    module: torch.nn.Module
    shapes: tuple[torch.Size, torch.Size, torch.Size]
    mask: Mask | None
    others: Mapping[str, Any]


_CALLS: ContextVar[list[Call]] = ContextVar("octavo_recorded_calls")


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """All calls under `RECORDED` while it is open."""
    calls: list[Call] = []
    token = _CALLS.set(calls)
    try:
        yield calls
    finally:
        _CALLS.reset(token)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    layer: PagedLayer = getattr(module, _LAYER)
    return layer.attend(query, key, value, s_aux), None


def _record(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    given = {name: other for name, other in others.items() if other is not None}
    shapes = (query.shape, key.shape, value.shape)
    # An operation on the mask gives a tensor without the mark: what it sees is not known then.
    mask = getattr(attention_mask, _MASK, None)
    _CALLS.get().append(Call(module, shapes, mask, given))
    return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3]), None


def _keep_unmixed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """The sum of a token's own query, key and value, so that whatever went into any of them is seen."""
    groups = query.shape[1] // key.shape[1]
    own = query + (key + value).repeat_interleave(groups, dim=1)
    return own.transpose(1, 2).contiguous(), None


def _marked_mask(
    *,
    mask_function: Callable[..., Any],
    device: torch.device,
    local_size: int | None = None,
    **_: Any,
) -> torch.Tensor:
    mask = torch.zeros((1, 1, 1, 1), dtype=torch.bool, device=device)
    setattr(mask, _MASK, Mask(mask_function, local_size))
    return mask


def register() -> None:
    """Makes the names known to transformers; once more changes nothing."""
    # Imported here: transformers' modelling brings torch's compiler in, which sets an environment variable.
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(PAGED, _attend)
    AttentionInterface.register(RECORDED, _record)
    AttentionInterface.register(UNMIXED, _keep_unmixed)
    # The others have no masks: transformers makes none for a name that is not registered here.
    AttentionMaskInterface.register(RECORDED, _marked_mask)
