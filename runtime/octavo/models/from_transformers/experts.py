"""Experts interface of transformers: what its mixtures of experts call in place of their own products.

Two names are registered there. Under `OWN` a layer's experts are Octavo's; the module's router still chooses.
Under `RECORDED` nothing is computed: each call is written down. A layer whose module computes something that
our products do not, a bias that they lack or a norm behind them, keeps transformers' own implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from octavo.kernels.expert_gate import ExpertGate
from octavo.kernels.fp4 import MXFP4_GROUP
from octavo.layers.moe import ChosenExperts
from octavo.layers.projection import Projection, Shard
from octavo.models.from_transformers.gates import known_gate
from octavo.models.from_transformers.interface import RECORDED, Running

OWN = "octavo_experts"

GATE_UP, DOWN = "gate_up_proj", "down_proj"
BIAS = "_bias"
_SEAT = "octavo_experts_seat"


@dataclass(frozen=True, slots=True)
class ExpertsLayer:
    """The experts of one layer.

    Args:
        path: Of their module.
        width: Between the two products.
        has_bias: Both have biases.
        is_transposed: The module keeps weights `[experts, in, out]`, and not `[experts, out, in]`.
        is_interleaved: Outputs of gate and up take turns, and do not lie behind each other.
        gate: None where the module's own function gates in a way that is none of Octavo's. Else, where
            outputs of gate and up take turns, they are put behind each other.
    """

    path: str
    num_experts: int
    hidden_size: int
    width: int
    has_bias: bool = False
    is_transposed: bool = False
    is_interleaved: bool = False
    gate: ExpertGate | None = None

    @property
    def is_usual(self) -> bool:
        """Whether ranks may share each expert: its gate takes each channel by itself."""
        return self.gate is not None

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes by full name, as the module keeps them."""
        count, hidden, width = self.num_experts, self.hidden_size, self.width
        shapes: dict[str, tuple[int, ...]] = {
            GATE_UP: (count, *self.matrix((2 * width, hidden))),
            DOWN: (count, *self.matrix((hidden, width))),
        }
        if self.has_bias:
            shapes |= {f"{GATE_UP}{BIAS}": (count, 2 * width), f"{DOWN}{BIAS}": (count, hidden)}
        return {f"{self.path}.{name}": shape for name, shape in shapes.items()}

    def matrix(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Of outputs and inputs, the shape that the module keeps."""
        return (shape[1], shape[0]) if self.is_transposed else shape

    def parts(self, expert: int) -> dict[str, tuple[str, range]]:
        """Of each product's name, the parameter that it lies in, and which of its outputs it is."""
        path, width = f"{self.path}.{expert}", self.width
        every, both = range(2 * width), f"{self.path}.{GATE_UP}"
        if self.is_interleaved and self.gate is None:
            found = {f"{path}.{GATE_UP}": (both, every)}
        else:
            gate, up = (
                (every[::2], every[1::2]) if self.is_interleaved else (every[:width], every[width:])
            )
            found = {f"{path}.gate_proj": (both, gate), f"{path}.up_proj": (both, up)}
        return {**found, f"{path}.{DOWN}": (f"{self.path}.{DOWN}", range(self.hidden_size))}

    def projections(self, *, is_cut: bool) -> list[tuple[Projection, Projection]]:
        """Gate and up, and down, of each expert, which ranks cut or have whole."""
        column, row = (Shard.COLUMN, Shard.ROW) if is_cut else (Shard.WHOLE, Shard.WHOLE)
        found = []
        for expert in range(self.num_experts):
            *up, down = self.parts(expert)
            widths = (self.width,) * 2 if len(up) == 2 else (2 * self.width,)
            found.append(
                (
                    Projection(
                        tuple(up),
                        self.hidden_size,
                        widths,
                        self.has_bias,
                        column,
                        is_routed=True,
                        group=MXFP4_GROUP,
                    ),
                    Projection(
                        (down,),
                        self.width,
                        (self.hidden_size,),
                        self.has_bias,
                        row,
                        is_routed=True,
                        group=MXFP4_GROUP,
                    ),
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class ExpertsCall:
    """One call of experts: their module, and whether it came with what the interface says."""

    module: torch.nn.Module
    is_known: bool


@dataclass(frozen=True, slots=True)
class Seat:
    """What a module of experts is bound to."""

    experts: ChosenExperts
    running: Running

    def __call__(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        step = self.running.step
        num_live = None if step is None else step.num_live
        return self.experts(x.contiguous(), experts, shares, num_live)


_CALLS: ContextVar[list[ExpertsCall]] = ContextVar("octavo_experts_calls")


@contextmanager
def recorded_experts() -> Iterator[list[ExpertsCall]]:
    """All calls under `RECORDED` while it is open."""
    calls: list[ExpertsCall] = []
    token = _CALLS.set(calls)
    try:
        yield calls
    finally:
        _CALLS.reset(token)


def seat(module: torch.nn.Module, own: Seat) -> None:
    for name in (GATE_UP, DOWN, f"{GATE_UP}{BIAS}", f"{DOWN}{BIAS}"):
        module.__dict__.pop(name, None)  # see `forget_parameters`
    setattr(module, _SEAT, own)


def forget_parameters(module: torch.nn.Module, layer: ExpertsLayer) -> None:
    """In their places are tensors without values: classes initialise those by name while they are loaded."""
    for full, shape in layer.parameters.items():
        name = full.rpartition(".")[2]
        delattr(module, name)
        nothing = torch.empty(shape, device="meta")
        nothing._is_hf_initialized = True  # type: ignore[attr-defined]  # noqa: SLF001
        module.__dict__[name] = nothing


def register() -> None:
    """Makes the names known to transformers; once more changes nothing."""
    from transformers.integrations.moe import ExpertsInterface

    ExpertsInterface.register(OWN, _run)
    ExpertsInterface.register(RECORDED, _record)


def experts_of(
    calls: list[ExpertsCall], paths: Mapping[torch.nn.Module, str]
) -> tuple[tuple[ExpertsLayer, ...], str | None]:
    """The layers whose experts are Octavo's, or why none is: a model's are of one implementation."""
    found = []
    for call in calls:
        layer = _layer(call, paths[call.module])
        if isinstance(layer, str):
            return (), f"{paths[call.module]} {layer}"
        found.append(layer)
    if len({layer.path for layer in found}) != len(found):
        return (), "some are called more than once"
    return tuple(found), None


def _run(
    module: torch.nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
) -> torch.Tensor:
    own: Seat = getattr(module, _SEAT)
    return own(hidden_states, top_k_index, top_k_weights)


def _record(
    module: torch.nn.Module,
    hidden_states: torch.Tensor,
    top_k_index: torch.Tensor,
    top_k_weights: torch.Tensor,
    **others: Any,
) -> torch.Tensor:
    tokens, choice = hidden_states.shape[0], top_k_index.shape
    is_known = not others and hidden_states.dim() == len(choice) == 2
    is_known = is_known and choice == top_k_weights.shape and choice[0] == tokens
    _CALLS.get([]).append(ExpertsCall(module, is_known))
    return torch.zeros_like(hidden_states)


def _layer(call: ExpertsCall, path: str) -> ExpertsLayer | str:
    """What they compute, or what of it is not implemented."""
    module: Any = call.module
    if not call.is_known:
        return "is called with other arguments than the interface's"
    if not module.has_gate:
        return "has no gate"
    if module.has_post_expert_norm:
        return "normalises what an expert gives"
    count, *matrix = getattr(module, DOWN).shape
    hidden, width = reversed(matrix) if module.is_transposed else matrix
    layer = ExpertsLayer(
        path,
        count,
        hidden_size=hidden,
        width=width,
        has_bias=module.has_bias,
        is_transposed=module.is_transposed,
        is_interleaved=not module.is_concatenated,
        gate=known_gate(module, is_interleaved=not module.is_concatenated),
    )
    own = {f"{path}.{name}": tuple(one.shape) for name, one in module.named_parameters()}
    return layer if own == layer.parameters else "has other parameters"
