"""Number formats: what a register's bits mean, and `cvt` between them (PTX ISA 5.2.3 and 9.7.9.21).

Formats that numpy lacks are kept as their bits; arithmetic is done in float32.
"""

from __future__ import annotations

import numpy as np
import torch

_KEPT_AS_BITS = {
    "pred": "?",
    "f16": "u2",
    "bf16": "u2",
    "f16x2": "u4",
    "bf16x2": "u4",
    "e4m3x2": "u2",
}
_E4M3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_FLOATS = ("f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "e4m3x2")


def dtype_of(kind: str) -> np.dtype:
    """In which numpy keeps the values of a PTX type such as `s32`; raises ValueError for no type."""
    if kind in _KEPT_AS_BITS:
        return np.dtype(_KEPT_AS_BITS[kind])
    letter = {"b": "u", "u": "u", "s": "i", "f": "f"}.get(kind[0])
    if letter is None or not kind[1:].isdigit() or kind == "b128":
        raise ValueError(f"no type: {kind}")
    return np.dtype(f"{letter}{int(kind[1:]) // 8}")


def is_float(kind: str) -> bool:
    return kind in _FLOATS


def lanes_of(values: np.ndarray, kind: str) -> np.ndarray:
    """`[threads, 2]` of a packed type, else unchanged."""
    if not kind.endswith("x2"):
        return values
    half = np.dtype(f"u{values.dtype.itemsize // 2}")
    return np.ascontiguousarray(values).view(half).reshape(-1, 2)


def to_float(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 of the narrow formats; `[threads, 2]` of a packed one; all else is left as it is."""
    values = lanes_of(values, kind)
    match kind.removesuffix("x2"):
        case "f16":
            return values.view(np.float16).astype(np.float32)
        case "bf16":
            return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        case "e4m3":
            return np.asarray(_E4M3[values])
    return values


def from_float(values: np.ndarray, kind: str) -> np.ndarray:
    """Rounds to nearest, ties to even; a packed format takes `[threads, 2]`."""
    narrow = kind.removesuffix("x2")
    match narrow:
        case "f32":
            return values.astype(np.float32)
        case "f64":
            return values.astype(np.float64)
        case "f16":
            bits = values.astype(np.float16).view(np.uint16)
        case "bf16":
            bits = _to_bfloat16(values.astype(np.float32))
        case "e4m3":
            bits = _to_e4m3(values.astype(np.float32))
        case _:
            raise NotImplementedError(f"rounding to {kind}")
    if kind == narrow:
        return bits
    return np.ascontiguousarray(bits).view(f"u{2 * bits.dtype.itemsize}")[..., 0]


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


def _to_e4m3(values: np.ndarray) -> np.ndarray:
    """Saturated, as `satfinite` asks for; NaN stays."""
    clipped = torch.from_numpy(np.clip(values, np.float32(-448), np.float32(448)))
    return clipped.to(torch.float8_e4m3fn).view(torch.uint8).numpy()


def converted(values: np.ndarray, to: str, source: str, options: frozenset[str]) -> np.ndarray:
    """`cvt` of what `lanes_of` gives.

    Args:
        options: The modifiers between `cvt` and the types.
    """
    saturates = {"satfinite"} if to == "e4m3x2" else set()
    if options - {"rn", "ftz", *_TO_INTEGER} - saturates or saturates - options:
        raise NotImplementedError(f"cvt with {sorted(options)}")
    numbers = to_float(values, source.removesuffix("x2"))
    rounding = next((function for name, function in _TO_INTEGER.items() if name in options), None)
    if is_float(to):
        return from_float(numbers, to)
    dtype = dtype_of(to)
    if numbers.dtype.kind == "f":
        assert rounding is not None
        return _saturated(rounding(numbers), dtype)
    return numbers.astype(dtype)


def _saturated(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """NaN gives 0, what is too large the largest (PTX ISA 9.7.9.21, notes)."""
    bounds = np.iinfo(dtype)
    exact = values.astype(np.float64)
    inside = (exact > float(bounds.min)) & (exact < float(bounds.max))
    result = np.where(inside, exact, 0).astype(dtype)
    result = np.where(exact >= float(bounds.max), dtype.type(bounds.max), result)
    return np.where(exact <= float(bounds.min), dtype.type(bounds.min), result)
