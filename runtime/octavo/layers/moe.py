"""Mixture of experts: each token runs through the few feed-forward blocks that a router picks for it.

Which tokens an expert gets is known on the device alone. A CPU looks and runs the experts that got any;
a GPU must not wait for the answer, and a CUDA graph can't, so there the shapes are those of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.layers.mlp import GatedMLP
from octavo.loading import WeightSource


class Router:
    """Picks experts by the softmax of `x @ weight.T`; the picked ones' shares are scaled to a sum of 1.

    Args:
        weight: `[experts, hidden]`.
        num_per_token: Experts that each token gets.
    """

    __slots__ = ("_num_per_token", "_weight")

    def __init__(self, weight: torch.Tensor, num_per_token: int) -> None:
        self._weight = weight
        self._num_per_token = num_per_token

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of `[tokens, hidden]`, shares (float32) and experts (int64), `[tokens, num_per_token]` each."""
        shares = torch.softmax(F.linear(x, self._weight).float(), dim=-1)
        best, experts = torch.topk(shares, self._num_per_token, dim=-1)
        return best / best.sum(dim=-1, keepdim=True), experts


class ExpertLoop:
    """Runs the experts that got tokens, one after another. Reads the router's choice on the host."""

    __slots__ = ("_experts", "_router")

    def __init__(self, router: Router, experts: Sequence[GatedMLP]) -> None:
        self._router = router
        self._experts = experts

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shares, experts = self._router(x)
        out = torch.zeros_like(x)
        for index in sorted(set(experts.view(-1).tolist())):
            rows, places = torch.where(experts == index)
            result = self._experts[index](x[rows]) * shares[rows, places, None]
            out.index_add_(0, rows, result.to(x.dtype))
        return out


class StackedExperts:
    """Never waits for the device, and its shapes follow from the number of tokens alone.

    Args:
        gate_up: `[experts, 2 * width, hidden]`, the gate first.
        down: `[experts, hidden, width]`.
        gate: `[rows, 2 * width] -> [rows, width]`, such as `Kernels.silu_and_mul`.
        has_grouped_product: One product over rows sorted by expert (`grouped_mm`, which reads its
            borders on the device). Without it every expert runs on all rows: right, but more arithmetic.
    """

    __slots__ = ("_down", "_gate", "_gate_up", "_has_grouped_product", "_router")

    def __init__(
        self,
        router: Router,
        gate_up: torch.Tensor,
        down: torch.Tensor,
        gate: Callable[[torch.Tensor], torch.Tensor],
        *,
        has_grouped_product: bool,
    ) -> None:
        self._router = router
        self._gate_up = gate_up
        self._down = down
        self._gate = gate
        self._has_grouped_product = has_grouped_product

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        shares, experts = self._router(x)
        return (self._grouped if self._has_grouped_product else self._every)(x, shares, experts)

    def _grouped(
        self, x: torch.Tensor, shares: torch.Tensor, experts: torch.Tensor
    ) -> torch.Tensor:
        flat = experts.view(-1)
        ordered, order = torch.sort(flat, stable=True)
        ids = torch.arange(self._gate_up.shape[0], device=x.device)
        ends = torch.searchsorted(ordered, ids, right=True, out_int32=True)
        rows = x.index_select(0, order // experts.shape[1])
        inner = self._gate(F.grouped_mm(rows, self._gate_up.transpose(1, 2), offs=ends))
        results = F.grouped_mm(inner, self._down.transpose(1, 2), offs=ends)
        # Back in the tokens' order each row is summed by itself: atomic additions would make the sum
        # depend on who comes first.
        back = torch.empty_like(results).index_copy_(0, order, results)
        parts = back.view(*experts.shape, -1) * shares.unsqueeze(-1)
        return parts.sum(dim=1).to(x.dtype)

    def _every(self, x: torch.Tensor, shares: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        weights = shares.new_zeros(x.shape[0], self._gate_up.shape[0])
        weights.scatter_(1, experts, shares)
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for index in range(self._gate_up.shape[0]):
            inner = self._gate(F.linear(x, self._gate_up[index]))
            out.addcmul_(F.linear(inner, self._down[index]), weights[:, index, None])
        return out.to(x.dtype)


def stack_experts(
    source: WeightSource,
    names: Sequence[Sequence[str]],
    hidden: int,
    width: int,
    *,
    like: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of `StackedExperts`, filled tensor by tensor: beside the stacks one tensor at a time is
    in memory.

    Args:
        names: Of each expert, the parameter prefixes of gate, up and down.
        like: Gives device and dtype.
    """
    gate_up = like.new_empty(len(names), 2 * width, hidden)
    down = like.new_empty(len(names), hidden, width)
    for index, (gate_name, up_name, down_name) in enumerate(names):
        gate_up[index, :width] = source.take(f"{gate_name}.weight", (width, hidden))
        gate_up[index, width:] = source.take(f"{up_name}.weight", (width, hidden))
        down[index] = source.take(f"{down_name}.weight", (hidden, width))
    return gate_up, down


def runs_on_host(weight: torch.Tensor) -> bool:
    """Whether looking at values of the device that holds `weight` costs nothing."""
    return weight.device.type == "cpu"


def has_grouped_product(weight: torch.Tensor) -> bool:
    """Whether `grouped_mm` on `weight` is one kernel that reads its borders on the device.

    Elsewhere torch falls back to a loop that waits for them.
    """
    if weight.device.type != "cuda" or weight.dtype is not torch.bfloat16:
        return False
    return torch.cuda.get_device_capability(weight.device) >= (9, 0)
