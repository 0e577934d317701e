"""Down projection of experts. The second half of a mixture of experts: each expert's way back from its width
to the model's."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its established name)

from octavo.kernels.reference.experts.route import ExpertRouting


def experts_down(
    inner: torch.Tensor,
    weight: torch.Tensor,
    routing: ExpertRouting,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`inner @ weight.T + bias` of each place by its expert, in the order of the choices.

    Args:
        inner: `[places, width]`.
        weight: `[experts, hidden, width]`.
        bias: `[experts, hidden]`; None: there are none.

    Returns `[parts, choices, hidden]`, to be summed over the first axis: the dtype of `inner` where there
    is one part, float32 where a kernel makes more of them to keep a GPU busy. What padding rows would have
    chosen is left unwritten.
    """
    out = inner.new_empty(1, len(inner), weight.shape[1])
    for expert, first, end in routing.tiles.tolist():
        if expert >= 0:
            own = None if bias is None else bias[expert]
            out[0, routing.order[first:end].long()] = F.linear(
                inner[first:end], weight[expert], own
            )
    return out
