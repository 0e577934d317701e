"""Builds kernels for a GPU that is not there, so that a slow or impossible one is noticed before it ships.

A kernel that spills registers or wants more shared memory than the chip has still passes every test of
its values in the interpreter. Here it is compiled as a launch would compile it, down to machine code,
and the resources are read from that code.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import __file__ as _nvidia_backend
from triton.compiler import ASTSource

_BINARIES = Path(_nvidia_backend).parent / "bin"

# Bytes of shared memory that one block may have, by compute capability (CUDA C++ programming guide,
# "Technical specifications per compute capability").
MAX_SHARED_BYTES: Mapping[int, int] = {80: 163 * 1024, 90: 227 * 1024}


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
        capabilities: What it ships for, 80 (A100) and 90 (H100, H200).
        uses_wgmma: Whether it must multiply by Hopper's warpgroup instruction on 90; prefill's rate
            halves without.
        overlaps_copies: Whether it must compute while copies to shared memory are under way.
    """

    name: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, object]
    num_warps: int
    num_stages: int
    divisible: frozenset[str] = field(default_factory=frozenset)
    capabilities: tuple[int, ...] = (80, 90)
    uses_wgmma: bool = False
    overlaps_copies: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """What the machine code of a kernel takes.

    Args:
        registers: Per thread.
        spill_instructions: Loads from and stores to local memory, where spilled registers go.
        shared_bytes: Per block.
        wgmma_instructions: Hopper's warpgroup matrix products.
        async_copies: Copies to shared memory that run beside the program: `cp.async` or TMA.
        copy_groups_in_flight: Groups of such copies that may still be under way when the program goes on.
    """

    registers: int
    spill_instructions: int
    shared_bytes: int
    wgmma_instructions: int
    async_copies: int
    copy_groups_in_flight: int


def launch_options(num_warps: int, num_stages: int) -> dict[str, Any]:
    """Keyword arguments of a launch, and of compiling for one.

    Fused multiply-add is asked for by name: from Triton 3.10 on it is off unless asked for.
    """
    return {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}


def compile_configuration(configuration: ShippedConfiguration, capability: int) -> Resources:
    """Compiles for a compute capability, 80 or 90, and counts.

    Raises:
        KeyError: An argument of the kernel is neither in `arguments` nor in `constants`.
    """
    kernel = configuration.kernel
    signature = {
        name: "constexpr" if name in configuration.constants else configuration.arguments[name]
        for name in kernel.arg_names
    }
    attributes = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names)
        if (signature[name].startswith("*") or name in configuration.divisible)
        and not kernel.params[index].do_not_specialize_on_alignment
    }
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=dict(configuration.constants), attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options=launch_options(configuration.num_warps, configuration.num_stages),
    )
    return _resources(compiled.asm["cubin"], compiled.metadata.shared)


def _resources(binary: bytes, shared_bytes: int) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        usage = _run("cuobjdump", "-res-usage", file.name)
        code = _run("cuobjdump", "-sass", file.name)
    match = re.search(r"REG:(\d+)", usage)
    if match is None:
        raise RuntimeError(f"cuobjdump -res-usage printed no register count: {usage!r}")
    return Resources(
        registers=int(match[1]),
        spill_instructions=len(re.findall(r"\b(?:LDL|STL)\b", code)),
        shared_bytes=shared_bytes,
        wgmma_instructions=len(re.findall(r"\b[HIQ]GMMA\b", code)),
        async_copies=len(re.findall(r"\b(?:LDGSTS|UTMALDG)\b", code)),
        copy_groups_in_flight=max(
            (int(count, 16) for count in re.findall(r"DEPBAR\.LE SB0, 0x([0-9a-f]+)", code)),
            default=0,
        ),
    )


def _run(program: str, *arguments: str) -> str:
    """One of the CUDA tools that come with triton's wheel."""
    command = [str(_BINARIES / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
