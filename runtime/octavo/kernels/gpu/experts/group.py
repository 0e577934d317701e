"""Grouping of chosen experts, cut for the device's expert kernels."""

from __future__ import annotations

import torch

from octavo.kernels.gpu.tuning.experts import block_rows_for
from octavo.kernels.reference.experts import group as reference
from octavo.kernels.reference.experts.route import ExpertRouting


def group_by_expert(
    experts: torch.Tensor,
    shares: torch.Tensor,
    num_experts: int,
    num_live: torch.Tensor | None = None,
    block_rows: int | None = None,
) -> ExpertRouting:
    """As `reference.experts.group.group_by_expert`, whose launches are the device's own."""
    tokens, per_token = experts.shape
    block_rows = block_rows or block_rows_for(tokens, num_experts, per_token)
    return reference.group_by_expert(experts, shares, num_experts, num_live, block_rows)
