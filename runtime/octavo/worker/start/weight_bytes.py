"""Weight bytes. How much memory a model's weights take, from its config.json alone."""

from __future__ import annotations

import torch

from octavo.config import Quantization
from octavo.kernels.select import has_cpu_kernels
from octavo.models.base import BaseConfig
from octavo.quantization import Scheme, Unquantised, WeightOnly


def weight_bytes(
    config: BaseConfig, dtype: torch.dtype, scheme: Scheme | None = None, num_ranks: int = 1
) -> int:
    """Bytes of the products and tables once they are loaded; norms and routers are left out, and a tied table
    is counted once.

    Args:
        scheme: None: weights stay as they are.
        num_ranks: That share the model: then those of the first, which has the most.
    """
    scheme = scheme or Unquantised()
    plain = scheme if isinstance(scheme, Unquantised) else Unquantised()
    shares = (one.share(0, num_ranks) for one in config.projections())
    products = sum(scheme.num_bytes(one, dtype) for one in shares)
    products += sum(plain.num_bytes(one, dtype) for one in config.kept_projections())
    tables = config.tables
    embedding = tables.embedding.share(0, num_ranks)
    table = plain.table_bytes(embedding, dtype)
    if tables.head is None:
        return products + table
    own_head = tables.head.share(0, num_ranks)
    head_scheme = plain if config.keeps_tables else scheme
    head = head_scheme.head_bytes(own_head, dtype, is_tied=tables.is_tied)
    return products + head + (0 if tables.is_tied else table)


def rounded_weight_bytes(config: BaseConfig, dtype: torch.dtype) -> dict[str, int]:
    """What they would take under each value of --quantization that rounds; empty where it does not work."""
    if dtype is torch.float16 or not has_cpu_kernels():
        return {}
    roundings = [one for one in Quantization if one.is_made_at_load]
    return {one.value: weight_bytes(config, dtype, WeightOnly(one)) for one in roundings}
