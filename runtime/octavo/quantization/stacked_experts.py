"""Stacks of experts with quantised weights, in the forms of a GPU.

Orders of inputs in which groups lie side by side (GPTQ's act-order) are each expert's own. That of the way
back costs nothing: gate and up give their outputs in it. That of gate and up stays beside their weight.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from octavo.kernels.packed_weight import stacked
from octavo.layers.linear import Linear
from octavo.layers.moe import ExpertProduct, stacked_biases
from octavo.quantization.forms import PlainLinear
from octavo.quantization.packed_forms import WordsLinear
from octavo.quantization.stored_scheme import Reordered


def stacked_experts(
    gate_ups: Iterable[Linear], downs: Iterable[Linear]
) -> tuple[ExpertProduct, ExpertProduct] | None:
    """Both products of experts that have one form: packed alike, or plain. None where they have not, where an
    expert's gate and up have different orders, and where a rank has some columns of a way back's groups.

    Args:
        gate_ups: Read after `downs`.
    """
    backs = [_apart(one) for one in downs]
    inner_orders = [order for _, order in backs]
    down = _stack([linear for linear, _ in backs])
    del backs
    if down is None:
        return None
    ups, input_orders = [], []
    for one, inner_order in zip(gate_ups, inner_orders, strict=True):
        linear, order = _apart(one)
        if inner_order is not None:
            if _num_outputs(linear) != 2 * len(inner_order):
                return None  # columns fill up a rank's parts of groups: see `of_scattered_inputs`
            linear = _with_outputs(linear, inner_order)
        ups.append(linear)
        input_orders.append(order)
    gate_up = _stack(ups)
    if gate_up is None:
        return None
    return replace(gate_up, input_order=_stacked_orders(input_orders)), down


def _apart(linear: Linear) -> tuple[Linear, torch.Tensor | None]:
    """The product of inputs that are in its order, and the order."""
    return (linear.linear, linear.order) if isinstance(linear, Reordered) else (linear, None)


def _stacked_orders(orders: list[torch.Tensor | None]) -> torch.Tensor | None:
    known = [order for order in orders if order is not None]
    if not known:
        return None
    own = torch.arange(len(known[0]), device=known[0].device)
    return torch.stack([own if order is None else order for order in orders]).int()


def _num_outputs(linear: Linear) -> int | None:
    """None of a product that is in no stack."""
    if isinstance(linear, WordsLinear):
        return linear.weight.width
    return None if linear.plain is None else linear.plain.weight.shape[0]


def _with_outputs(gate_up: Linear, order: torch.Tensor) -> Linear:
    """Gate and up, each with its outputs in this order."""
    rows = torch.cat([order, order + len(order)])
    if isinstance(gate_up, WordsLinear):
        return gate_up.with_outputs(rows)
    if gate_up.plain is None:
        return gate_up
    weight, bias = gate_up.plain.weight, gate_up.plain.bias
    return PlainLinear(weight[rows], None if bias is None else bias[rows])


def _stack(linears: list[Linear]) -> ExpertProduct | None:
    words = [one for one in linears if isinstance(one, WordsLinear)]
    if len(words) == len(linears):
        packed = stacked([one.weight for one in words])
        biases = stacked_biases([one.bias for one in words])
        return None if packed is None else ExpertProduct(packed, biases)
    plain = [one.plain for one in linears if one.plain is not None]
    if len(plain) < len(linears):
        return None
    weights = torch.stack([one.weight for one in plain])
    return ExpertProduct(weights, stacked_biases([one.bias for one in plain]))
