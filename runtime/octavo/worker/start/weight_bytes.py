"""How much memory a model's weights take, from its config.json alone."""

from __future__ import annotations

import torch

from octavo.config import Quantization
from octavo.kernels.select import has_cpu_kernels
from octavo.models.config import DecoderConfig


def weight_bytes(
    shape: DecoderConfig, dtype: torch.dtype, quantization: Quantization | None = None
) -> int:
    """Bytes of the matrices once they are loaded, at the least: biases and norms are left out, and every
    matrix is taken to fit the format that it is rounded to."""
    if quantization is None:
        return shape.num_parameters * dtype.itemsize
    table = shape.vocab_size * shape.hidden_size
    products = shape.num_parameters - (1 if shape.tie_word_embeddings else 2) * table
    # Embeddings and head: one matrix of 8 bits when tied, else the first as it is stored.
    tables = table * _bytes_each(Quantization.INT8)
    if not shape.tie_word_embeddings:
        tables += table * dtype.itemsize
    return int(products * _bytes_each(quantization) + tables)


def rounded_weight_bytes(shape: DecoderConfig, dtype: torch.dtype) -> dict[str, int]:
    """What they would take under each value of --quantization; empty where it does not work."""
    if dtype is torch.float16 or not has_cpu_kernels():
        return {}
    return {one.value: weight_bytes(shape, dtype, one) for one in Quantization}


def _bytes_each(quantization: Quantization) -> float:
    """Of one weight, its share of what is stored beside it included."""
    from octavo.kernels.cpu.products.weight_panels import PANEL, PanelFormat  # needs numba
    from octavo.kernels.reference.weight_only import INT4_GROUP

    panel = PanelFormat(quantization.value).panel_bytes(INT4_GROUP)
    return panel / (PANEL * INT4_GROUP)
