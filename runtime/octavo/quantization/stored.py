"""Stored weights: the contract of a format in which checkpoints hold quantised weights.

A format says what config.json tells of a parameter's weight, and turns the stored tensors into codes, scales
and zeros. How these are multiplied is no format's affair: see `octavo.quantization.stored_scheme`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from octavo.kernels.reference.weight_only import Code, QuantizedWeight
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.loading import WeightSource


@dataclass(frozen=True, slots=True)
class StoredLayout:
    """What config.json tells of a weight, which is enough to count its bytes.

    Args:
        group: Inputs that share a scale; None: all of them.
        is_reordered: Groups are of inputs that do not lie side by side (GPTQ's act-order).
        inputs: How activations are to be rounded before they are multiplied; None: they stay as they are.
    """

    code: Code
    group: int | None
    has_zeros: bool = False
    is_reordered: bool = False
    inputs: RoundedInputs | None = None


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """What the checkpoint holds of a weight.

    Args:
        order: `[columns]` int64: the input that each column of the codes belongs to; None: its own. Columns
            beyond the inputs are zeros, of any input.
        num_inputs: None: as many as columns.
        inputs: See `StoredLayout`.
        input_scale: `[1]` float32, where the checkpoint holds one.
    """

    code: Code
    weight: QuantizedWeight
    order: torch.Tensor | None = None
    num_inputs: int | None = None
    inputs: RoundedInputs | None = None
    input_scale: torch.Tensor | None = None

    def dequantize(self) -> torch.Tensor:
        """`[out_features, in_features]` float32, inputs in their own order."""
        columns = self.weight.dequantize()
        if self.order is None:
            return columns
        dequantized = columns.new_zeros(columns.shape[0], self.num_inputs or columns.shape[1])
        return dequantized.index_add_(1, self.order, columns)


class StoredFormat(Protocol):
    @property
    def method(self) -> str:
        """`quant_method` in config.json, and the value of --quantization."""
        ...

    def layout(self, name: str, depth: int) -> StoredLayout | None:
        """What config.json tells of a parameter's weight; None where it is not quantised.

        Args:
            name: Prefix of the parameter, as in `Projection.names`.
            depth: Inputs.
        """
        ...

    def read(self, name: str, width: int, depth: int, source: WeightSource) -> StoredWeight | None:
        """The weight `[width, depth]`; None where the checkpoint holds it as it is, under `name.weight`.

        What is stored counts: lists in config.json of what is quantised differ in how they are meant. What
        is wrong is noted in `source`.
        """
        ...

    def sizes(self, name: str, source: WeightSource) -> tuple[int, int] | None:
        """Outputs and inputs of a weight, where the checkpoint holds it quantised, by what is stored alone;
        None where it does not, or where that does not tell."""
        ...


@dataclass(frozen=True, slots=True)
class StoredParameter:
    """A whole parameter that is no product's, such as the experts of a layer, in stored tensors.

    Args:
        shape: As modules have it.
        tensors: Names of those that it lies in.
    """

    shape: tuple[int, ...]
    tensors: tuple[str, ...]


@runtime_checkable
class HoldsParameters(Protocol):
    """A `StoredFormat` that holds such parameters, too.

    Each of their tensors has the experts first and then the outputs, and is named as the parameter is, with
    more behind. An expert's part of one is a product's weight: `read` takes it, of such names and without the
    first axis. What is no product's is dequantised as it is read.
    """

    def parameters(self, source: WeightSource) -> Mapping[str, StoredParameter]:
        """By the names that modules have for them."""
        ...

    def parameter(self, name: str, source: WeightSource, dtype: torch.dtype) -> torch.Tensor:
        """One of `parameters`, on the host. What is wrong is noted in `source`."""
        ...


def quantized_weight(
    codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None, group: int | None
) -> QuantizedWeight:
    """Of codes in groups of `group` inputs, of which the last may be smaller; None: of all.

    Args:
        codes: `[width, depth]`.
        scales, zeros: `[width, groups]`, the former of any floating-point dtype; zeros that are all 0 are
            left out.
    """
    if zeros is not None and not zeros.any():
        zeros = None
    depth = codes.shape[1]
    group = depth if group is None else group
    whole = math.gcd(group, depth)
    if whole == group:
        return QuantizedWeight(codes, scales.float(), zeros)
    # Groups of one size that divide all inputs: each lies in one of those that are stored.
    index = torch.arange(depth // whole) * whole // group
    return QuantizedWeight(
        codes, scales[:, index].float(), None if zeros is None else zeros[:, index]
    )


def num_groups(depth: int, group: int | None) -> int:
    return 1 if group is None else -(-depth // group)


def matrix_shape(source: WeightSource, name: str) -> tuple[int, int] | None:
    """As it is stored; None where it is no matrix, or is not there."""
    shape = source.shape(name)
    return None if shape is None or len(shape) != 2 else (shape[0], shape[1])


def tensors_of(
    source: WeightSource, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
) -> list[torch.Tensor]:
    """As `WeightSource.tensors`; any that is stored in this shape and another dtype is noted."""
    found = source.tensors(shapes)
    for (name, shape), tensor in zip(shapes.items(), found, strict=True):
        if source.shape(name) == shape and tensor.dtype is not dtype:
            source.note(f"{name} is {tensor.dtype}, not {dtype}")
    return [tensor.to(dtype) for tensor in found]


def is_quantised(name: str, tensor: str, source: WeightSource, layout: StoredLayout | None) -> bool:
    """Whether a module's weight is to be read as a quantised one.

    Args:
        tensor: What a quantised weight is stored under, behind `name`.
        layout: By config.json, which decides where the checkpoint holds neither form.
    """
    if source.has(f"{name}.{tensor}"):
        return True
    return layout is not None and not source.has(f"{name}.weight")
