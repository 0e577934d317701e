"""Compilation without a GPU. Builds kernels for a GPU that is not there, so that a slow or impossible one is
noticed before it ships.

A kernel that spills registers or wants more shared memory than the chip has still passes every test of
its values in the interpreter. Here it is compiled as a launch would compile it, down to machine code;
`machine_code.py` reads what that takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from octavo.kernels.gpu.compiling.machine_code import Binary
from octavo.kernels.gpu.tuning.chips import COMPACT_CHIPS

_TYPE_NAMES: Mapping[torch.dtype, str] = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float8_e4m3fn: "fp8e4nv",
}


# Triton specialises on no value of these.
_FLOATS = ("fp32",)


def pointer_to(dtype: torch.dtype) -> str:
    """The type of a tensor argument as Triton writes it."""
    return f"*{_TYPE_NAMES[dtype]}"


@dataclass(frozen=True, slots=True)
class ShippedConfiguration:
    """One form of a kernel that serving launches.

    Args:
        name: Says what is special about it; part of a test's name.
        kernel: The `triton.jit` function.
        arguments: Type of each run-time argument as Triton writes it: `*bf16`, `*i32`, `i64`, `fp32`.
            Pointers count as aligned to 16 bytes, as torch allocates them, unless the kernel has them in
            `do_not_specialize_on_alignment`.
        constants: The `tl.constexpr` arguments, and pointers that are None.
        divisible: Integer arguments that are multiples of 16 in every launch and not in the kernel's
            `do_not_specialize`, such as strides: Triton makes wide loads of them.
        capabilities: What it is compiled for: 80 (A100), 90 (H100, H200), 89 (L4), 120 (RTX 50).
        shares_tiles_with: More that are launched with the same block sizes, whose shared memory it must
            also fit.
        uses_wgmma: Whether it must multiply by Hopper's warpgroup instruction on 90; prefill's rate
            halves without.
        overlaps_copies: Whether it must compute while copies to shared memory are under way.
        max_narrow_loads: Loads of one or two bytes that it may have in its code: where a row begins aligned,
            one load takes 16 bytes of it.
    """

    name: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, object]
    num_warps: int
    num_stages: int
    divisible: frozenset[str] = field(default_factory=frozenset)
    capabilities: tuple[int, ...] = (80, 90)
    shares_tiles_with: tuple[int, ...] = COMPACT_CHIPS
    uses_wgmma: bool = False
    overlaps_copies: bool = False
    max_narrow_loads: int = 1


def launch_options(num_warps: int, num_stages: int) -> dict[str, Any]:
    """Keyword arguments of a launch, and of compiling for one.

    Fused multiply-add is asked for by name: from Triton 3.10 on it is off unless asked for.
    """
    return {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}


def compile_configuration(configuration: ShippedConfiguration, capability: int) -> Binary:
    """Compiles for a compute capability such as 80; several threads may at once.

    Raises:
        KeyError: An argument of the kernel is neither in `arguments` nor in `constants`.
    """
    kernel = configuration.kernel
    signature = {
        name: "constexpr" if name in configuration.constants else configuration.arguments[name]
        for name in kernel.arg_names
    }
    # As a launch has them, empty ones included: then both find the same binary in Triton's cache.
    attributes = {
        (index,): [["tt.divisibility", 16]] if _is_aligned(configuration, name, parameter) else []
        for index, (name, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True))
        if not parameter.do_not_specialize and signature[name] not in _FLOATS
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=dict(configuration.constants), attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options=launch_options(configuration.num_warps, configuration.num_stages),
    )
    return Binary(compiled.asm["cubin"], compiled.metadata.shared)


def _is_aligned(configuration: ShippedConfiguration, name: str, parameter: Any) -> bool:
    if name in configuration.constants or parameter.do_not_specialize_on_alignment:
        return False
    return configuration.arguments[name].startswith("*") or name in configuration.divisible
