"""bfloat16, and casts to and from float8, as a GPU computes them, in Triton's interpreter.

The interpreter keeps the bits of a bfloat16 as unsigned integers and computes with those; its casts cut bits
off instead of rounding, and those to and from float8 know no NaN. Here the bits stay, so that what only moves
values needs no change; whatever computes gets them as float32 and its result is rounded to nearest even, once
for each operation. For sums, differences and products that is the nearest bfloat16 of the exact result:
float32 has more than twice as many bits (Figueroa, 1995). A compiler may fuse a product and a sum and round
once where this rounds twice: a kernel may rely on neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from triton._C.libtriton import ir
from triton.runtime.interpreter import (
    ReduceOps,
    ScanOps,
    TensorHandle,
    _get_np_dtype,
    interpreter_builder,
)

Floats = NDArray[np.float32]
Operation = Callable[..., Any]

_FLOAT8 = {tl.float8e4nv: torch.float8_e4m3fn, tl.float8e5: torch.float8_e5m2}
_NAN = 0x7FFF
_POISON = 0xFFFF


@contextmanager
def narrow_floats() -> Iterator[None]:
    """Until it ends, interpreted kernels compute with bfloat16 and cast float8 as a GPU does.

    Raises, from a launch:
        InterpreterError: The kernel needs an operation on them that is not made here.
    """
    builder = interpreter_builder
    through_float32 = ("binary_op", "unary_op", "create_clampf")
    operations: dict[str, Any] = {
        name: _through_float32(getattr(builder, name)) for name in through_float32
    }
    operations |= {
        name: _refused(name, getattr(builder, name)) for name in ("create_fma", "create_dot_scaled")
    }
    operations["cast_impl"] = _cast(builder.cast_impl)
    operations["create_fp_to_fp"] = _cast_between_floats(builder.create_fp_to_fp)
    operations["create_dot"] = _dot(builder.create_dot)
    operations["create_atomic_rmw"] = _atomic_add(builder.create_atomic_rmw)
    with (
        mock.patch.multiple(builder, **operations),
        mock.patch.object(ReduceOps, "apply_impl", _reduce(ReduceOps.apply_impl)),
        mock.patch.multiple(ScanOps, cumsum=_scan(ScanOps.cumsum), cumprod=_scan(ScanOps.cumprod)),
    ):
        yield


def _is_bfloat16(value: object) -> bool:
    return isinstance(value, TensorHandle) and value.dtype.scalar == tl.bfloat16


def _float32_of(handle: TensorHandle) -> Floats:
    """The handle's values, exactly where they are floats of at most 32 bits."""
    dtype, data = handle.dtype.scalar, handle.data
    if dtype == tl.bfloat16:
        widened: Floats = (data.astype(np.uint32) << 16).view(np.float32)
    elif dtype in _FLOAT8:
        widened = torch.from_numpy(np.array(data)).view(_FLOAT8[dtype]).float().numpy()
    else:
        widened = data.astype(np.float32)
    return widened


def _rounded(values: Floats, dtype: tl.dtype) -> TensorHandle:
    """To nearest even; float8 saturates, as a GPU's conversion does, and keeps NaN."""
    if dtype == tl.bfloat16:
        bits = values.view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        data = np.where(np.isnan(values), _NAN, nearest).astype(np.uint16)
    elif dtype in _FLOAT8:
        limit = torch.finfo(_FLOAT8[dtype]).max
        clipped = torch.from_numpy(np.clip(values, -limit, limit))
        data = clipped.to(_FLOAT8[dtype]).view(torch.uint8).numpy()
    else:
        data = values.astype(_get_np_dtype(dtype))
    return TensorHandle(data, dtype)


def _through_float32(operation: Operation) -> Operation:
    """Of operands that are all bfloat16, or none."""

    def compute(*operands: Any) -> TensorHandle:
        if not any(map(_is_bfloat16, operands)):
            return operation(*operands)
        result = operation(
            *(
                TensorHandle(_float32_of(operand), tl.float32) if _is_bfloat16(operand) else operand
                for operand in operands
            )
        )
        if result.data.dtype == np.bool_:
            return TensorHandle(result.data, tl.int1)
        return _rounded(result.data, tl.bfloat16)

    return compute


def _refused(name: str, operation: Operation) -> Operation:
    def compute(*operands: Any) -> TensorHandle:
        if any(map(_is_bfloat16, operands)):
            raise NotImplementedError(
                f"{name} of bfloat16: float32 would round it twice; write its rounding, or compute in float32"
            )
        return operation(*operands)

    return compute


def _cast(cast: Operation) -> Operation:
    def run(source: TensorHandle, target: tl.dtype) -> TensorHandle:
        if _is_bfloat16(source) or target.scalar == tl.bfloat16:
            return _rounded(_float32_of(source), target.scalar)
        return cast(source, target)

    return run


def _cast_between_floats(cast: Operation) -> Operation:
    def run(source: TensorHandle, target: tl.dtype, rounding: Any) -> TensorHandle:
        ours = {tl.bfloat16, *_FLOAT8}
        if source.dtype.scalar not in ours and target.scalar not in ours:
            return cast(source, target, rounding)
        if rounding not in (None, ir.ROUNDING_MODE.RTNE):
            raise NotImplementedError(
                f"a cast to {target} rounds to nearest even, not by {rounding}"
            )
        return _rounded(_float32_of(source), target.scalar)

    return run


def _dot(dot: Operation) -> Operation:
    """Products of bfloat16 or float8 are exact in float32, where they are summed."""

    def exact(factor: TensorHandle) -> TensorHandle:
        if _is_bfloat16(factor) or factor.dtype.scalar in _FLOAT8:
            return TensorHandle(_float32_of(factor), tl.float32)
        return factor

    def run(left: TensorHandle, right: TensorHandle, *rest: Any) -> TensorHandle:
        return dot(exact(left), exact(right), *rest)

    return run


def _atomic_add(atomic: Operation) -> Operation:
    """The only atomic operation on bfloat16 that the language has; lane after lane, as some may meet."""

    def run(
        operation: Any, pointers: TensorHandle, values: TensorHandle, mask: TensorHandle, *how: Any
    ) -> TensorHandle:
        if not _is_bfloat16(values):
            return atomic(operation, pointers, values, mask, *how)
        old = np.full(values.data.shape, _POISON, np.uint16)
        is_added = np.broadcast_to(mask.data, values.data.shape)
        for lane in np.argwhere(is_added):
            place = tuple(slice(index, index + 1) for index in lane)
            pointer = TensorHandle(pointers.data[place], pointers.dtype)
            added = TensorHandle(values.data[place], tl.bfloat16)
            before = interpreter_builder.create_load(pointer, None, False)
            after = interpreter_builder.create_fadd(before, added)
            interpreter_builder.create_store(pointer, after, None)
            old[place] = before.data
        return TensorHandle(old, tl.bfloat16)

    return run


def _reduce(reduce: Operation) -> Operation:
    """Value after value, so that each step is rounded; numpy's own reductions know bits alone."""

    def run(self: ReduceOps, tensors: tuple[Any, ...]) -> Any:
        if any(_is_bfloat16(tensor.handle) for tensor in tensors):
            return self.generic_reduce(tensors)
        return reduce(self, tensors)

    return run


def _scan(scan: Operation) -> Operation:
    def run(self: ScanOps, tensor: Any) -> Any:
        if _is_bfloat16(tensor.handle):
            return self.generic_scan([tensor])
        return scan(self, tensor)

    return run
