"""Layer kernels. What layers ask of a device's kernels beside attention.

`kernels.reference`, `kernels.gpu` and `kernels.cpu` are modules of this shape; `kernels.select` picks one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from octavo.kernels.expert_gate import SILU, ExpertGate

if TYPE_CHECKING:
    from octavo.kernels.adapter_seats import SeatedProduct
    from octavo.kernels.adapter_tiles import AdapterTiles
    from octavo.kernels.packed_weight import PackedWeight
    from octavo.kernels.reference.experts.route import ExpertRouting
    from octavo.kernels.scaled_weight import ScaledWeight


class Kernels(Protocol):
    """Norms and activations over rows. Nothing here waits for the device."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """`x / sqrt(mean(x²) + eps) * weight` over the last axis; a new tensor."""
        ...

    def add_rms_norm(
        self, residual: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Adds `delta` to `residual` in place and returns the norm of the sum."""
        ...

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`silu(gate) * up`: `[rows, 2 * width] -> [rows, width]`, the gate first."""
        ...

    def gelu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """`gelu(gate) * up` with the tanh form of GELU; shapes as in `silu_and_mul`."""
        ...


@runtime_checkable
class ExpertKernels(Protocol):
    """A mixture of experts whose shapes follow from the number of tokens alone: nothing waits for the device.

    Devices whose host may look at the router's choice do without. `kernels.reference` says what the
    arguments are.
    """

    def route_to_experts(
        self,
        logits: torch.Tensor,
        per_token: int,
        num_live: torch.Tensor | None = None,
        block_rows: int | None = None,
        *,
        is_normalised: bool = True,
    ) -> ExpertRouting:
        """Each token's experts and their shares, and everybody's work by expert."""
        ...

    def group_by_expert(
        self,
        experts: torch.Tensor,
        shares: torch.Tensor,
        num_experts: int,
        num_live: torch.Tensor | None = None,
        block_rows: int | None = None,
    ) -> ExpertRouting:
        """The same of experts that were chosen elsewhere."""
        ...

    def experts_gate_up(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        routing: ExpertRouting,
        *,
        gate: ExpertGate = SILU,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Of each place of the routing, gate and up as one: `[tokens, hidden] -> [places, width]`."""
        ...

    def experts_down(
        self,
        inner: torch.Tensor,
        weight: torch.Tensor,
        routing: ExpertRouting,
        *,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`[places, width] -> [parts, choices, hidden]`, whose sum over the parts is each choice's result."""
        ...

    def packed_experts_gate_up(
        self,
        x: torch.Tensor,
        weight: PackedWeight,
        routing: ExpertRouting,
        *,
        gate: ExpertGate = SILU,
        bias: torch.Tensor | None = None,
        input_order: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `experts_gate_up`, with quantised weights, whose columns may be in an order of each expert."""
        ...

    def packed_experts_down(
        self,
        inner: torch.Tensor,
        weight: PackedWeight,
        routing: ExpertRouting,
        *,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `experts_down`, with quantised weights."""
        ...

    def combine_experts(
        self, parts: torch.Tensor, shares: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Sum over each token's choices by their shares: `[tokens, hidden]`, zero in padding rows."""
        ...


@runtime_checkable
class FewRowKernels(Protocol):
    """Products of a few rows with what comes before and after them in the same launch.

    With so few rows a product only reads its weight, and launches are a good part of a step's time.
    Weights are plain, `[outputs, width]`; everything is contiguous. `kernels.reference` says what the
    arguments are.
    """

    max_fused_rows: int
    """Rows that they take at the most."""

    def norm_linear(
        self,
        x: torch.Tensor,
        norm_weight: torch.Tensor,
        eps: float,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`rms_norm(x) @ weight.T + bias`: `[rows, width] -> [rows, outputs]`."""
        ...

    def norm_gate_up(
        self,
        x: torch.Tensor,
        norm_weight: torch.Tensor,
        eps: float,
        weight: torch.Tensor,
        *,
        is_gelu: bool = False,
    ) -> torch.Tensor:
        """`activation(gate) * up` of `rms_norm(x) @ weight.T`: `[rows, hidden] -> [rows, width]`."""
        ...

    def linear_add(self, x: torch.Tensor, weight: torch.Tensor, residual: torch.Tensor) -> None:
        """`residual += x @ weight.T`, in place."""
        ...


@runtime_checkable
class StreamKernels(Protocol):
    """What keeps states of a step that is repeated without Python."""

    def sum_stream(
        self, residual: torch.Tensor, pending: torch.Tensor | None, out: torch.Tensor
    ) -> None:
        """`out = residual + pending`, all `[rows, hidden]`; `pending` is None where nothing is."""
        ...


@runtime_checkable
class PackedKernels(Protocol):
    """Products with quantised weights, of any number of rows; see `octavo.kernels.packed_weight`.

    Devices whose kernels read another form do without. `kernels.reference` says what the arguments are.
    """

    def packed_linear(
        self,
        x: torch.Tensor,
        weight: PackedWeight,
        bias: torch.Tensor | None = None,
        *,
        is_aligned: bool = False,
    ) -> torch.Tensor:
        """`x @ weight.T + bias`: `[rows, depth] -> [rows, width]`."""
        ...

    def scaled_linear(
        self, x: torch.Tensor, weight: ScaledWeight, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As `packed_linear`, of rows that are rounded to float8 before they are multiplied."""
        ...


@runtime_checkable
class AdapterKernels(Protocol):
    """Products of adapters, of whichever a row has, read on the device: nothing waits for it.

    Devices whose host multiplies adapter by adapter do without. `kernels.reference` says what the arguments
    are.
    """

    def adapter_shrink(
        self, x: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles
    ) -> torch.Tensor:
        """Each row down to the ranks of its adapter."""
        ...

    def adapter_expand(
        self, inner: torch.Tensor, product: SeatedProduct, tiles: AdapterTiles, out: torch.Tensor
    ) -> None:
        """What `adapter_shrink` gave up to the product's outputs, added to them."""
        ...
