"""Causal language model of transformers' modules, packed `[1, tokens]`, over the paged KV cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from octavo.layers.moe import ChosenExperts
from octavo.layers.step import Step
from octavo.models.from_transformers.experts import Seat, seat
from octavo.models.from_transformers.interface import PAGED, PagedLayer, Running, bind
from octavo.models.from_transformers.outline import Outline
from octavo.models.spec import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# Query heads of each key head, as transformers' spelt out attention asks its module.
_GROUPS = "num_key_value_groups"


class TransformersLM:
    """See `CausalLM`. What `forward` gives is normalised already.

    The head is whatever the class makes of the hidden states of its `base`: scaled, capped, or through more
    layers. So the class's own forward runs, with hidden states that are handed in in the base's place.

    Args:
        experts: That are Octavo's, by the paths of their modules.
        running: The step that the modules are in.
        num_ranks: That share the model, of which this is one's part.
    """

    def __init__(
        self,
        spec: ModelSpec,
        module: PreTrainedModel,
        outline: Outline,
        experts: Mapping[str, ChosenExperts],
        running: Running,
        num_ranks: int = 1,
    ) -> None:
        self._spec = spec
        self.own_spec = spec.on_rank(num_ranks)
        self.module = module
        self.base = module.get_submodule(outline.base)
        self._base_path = outline.base
        self.position_offset = outline.position_offset
        self._running = running
        self._handed = HandedStates(self.base)
        for index, (path, layer) in enumerate(zip(outline.attentions, outline.layers, strict=True)):
            own = replace(
                layer,
                num_heads=self.own_spec.num_heads,
                num_kv_heads=self.own_spec.num_kv_heads,
            )
            attention = module.get_submodule(path)
            bind(attention, PagedLayer(index, own, self._running))
            if num_ranks > 1 and hasattr(attention, _GROUPS):
                setattr(attention, _GROUPS, own.num_heads // own.num_kv_heads)
        for path, products in experts.items():
            seat(module.get_submodule(path), Seat(products, self._running))
        self._stand_in(self._handed)

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @contextmanager
    def attending(self, implementation: str) -> Iterator[PreTrainedModel]:
        """transformers' model as it was loaded, with another attention, for as long as this is open."""
        self._stand_in(self.base)
        self.module.set_attn_implementation(implementation)
        try:
            yield self.module
        finally:
            self.module.set_attn_implementation(PAGED)
            self._stand_in(self._handed)

    def _stand_in(self, base: torch.nn.Module) -> None:
        """Puts it where the class looks for its base."""
        self.module.set_submodule(self._base_path, base)

    def forward(
        self, token_ids: torch.Tensor, caches: list[torch.Tensor], step: Step
    ) -> torch.Tensor:
        running = self._running
        running.caches, running.step, running.calls = caches, step, 0
        positions = step.positions[: token_ids.shape[0]] + self.position_offset
        try:
            output = self.base(
                input_ids=token_ids[None], position_ids=positions[None], use_cache=False
            )
        finally:
            running.caches, running.step = [], None
        if running.calls != self._spec.num_layers:
            raise RuntimeError(
                f"{running.calls} layers called attention, where {self._spec.num_layers} must."
            )
        hidden: torch.Tensor = output[0][0]
        return hidden

    def normalise(self, residual: torch.Tensor) -> torch.Tensor:
        return residual

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self._handed.hidden = hidden[None]
        ids = torch.zeros((1, hidden.shape[0]), dtype=torch.int64, device=hidden.device)
        try:
            scores: torch.Tensor = self.module(input_ids=ids, use_cache=False).logits[0]
        finally:
            self._handed.hidden = None
        return scores


class HandedStates(torch.nn.Module):
    """Gives hidden states that were handed in. For all else that a head looks up, such as a multiplier that
    its class keeps there, it is the base."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.hidden: torch.Tensor | None = None
        self._base = (base,)  # in a tuple, so that it is no submodule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_base"][0], name)

    def forward(self, *_: Any, **__: Any) -> HandedOutput:
        if self.hidden is None:
            raise RuntimeError("No hidden states were handed in.")
        return HandedOutput(self.hidden)


class HandedOutput:
    """An output that holds hidden states and, whatever else it is asked for, nothing."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)

    def __getitem__(self, index: int | slice) -> Any:
        return (self.last_hidden_state,)[index]
