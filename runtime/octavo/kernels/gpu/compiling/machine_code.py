"""Machine code. What the machine code of compiled kernels takes and does, read with the CUDA tools of
triton's wheel.

The disassembler takes longer to start than to read a kernel, so that it is given the code of many at once.
"""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from triton.backends.nvidia import __file__ as _nvidia_backend

_BINARIES = Path(_nvidia_backend).parent / "bin"

# On every chip since Volta.
_INSTRUCTION_BYTES = 16


@dataclass(frozen=True, slots=True)
class Binary:
    """A kernel compiled for one capability.

    Args:
        cubin: An ELF file for the driver.
        shared_bytes: Shared memory that a launch asks for, per block.
    """

    cubin: bytes
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What the machine code of a kernel takes.

    Args:
        spill_instructions: Loads from and stores to local memory, where spilled registers go.
        shared_bytes: Per block.
        wgmma_instructions: Hopper's warpgroup matrix products.
        async_copies: Copies to shared memory that run beside the program: `cp.async` or TMA.
        copy_groups_in_flight: Groups of such copies that may still be under way when the program goes on.
        narrow_loads: Loads of one or two bytes a thread from global memory.
    """

    spill_instructions: int
    shared_bytes: int
    wgmma_instructions: int
    async_copies: int
    copy_groups_in_flight: int
    narrow_loads: int


def resources_of(binaries: Sequence[Binary], capability: int) -> list[Resources]:
    """Of kernels that were all compiled for `capability`, in their order."""
    if not binaries:
        return []
    codes = disassemble([_instructions(binary.cubin) for binary in binaries], capability)
    return [_resources(binary, code) for binary, code in zip(binaries, codes, strict=True)]


def disassemble(programs: Sequence[bytes], capability: int) -> list[str]:
    """Assembly of raw machine code, an instruction a line."""
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(programs))
        file.flush()
        # As one program the parts make no sense, so that the flow between them is not looked at.
        code = _run("nvdisasm", "--no-dataflow", "--binary", f"SM{capability}", file.name)
    lines = re.findall(r"/\*[0-9a-f]+\*/(.*);", code)
    counts = [len(program) // _INSTRUCTION_BYTES for program in programs]
    if len(lines) != sum(counts):
        raise RuntimeError(f"nvdisasm printed {len(lines)} instructions of {sum(counts)}")
    listing = iter(lines)
    return ["\n".join(itertools.islice(listing, count)) for count in counts]


def _resources(binary: Binary, code: str) -> Resources:
    return Resources(
        spill_instructions=len(re.findall(r"\b(?:LDL|STL)\b", code)),
        shared_bytes=binary.shared_bytes,
        wgmma_instructions=len(re.findall(r"\b[HIQ]GMMA\b", code)),
        async_copies=len(re.findall(r"\b(?:LDGSTS|UTMALDG)\b", code)),
        copy_groups_in_flight=max(
            (int(count, 16) for count in re.findall(r"DEPBAR\.LE SB0, 0x([0-9a-f]+)", code)),
            default=0,
        ),
        narrow_loads=len(re.findall(r"\bLDG(?:\.\w+)*\.[US](?:8|16)\b", code)),
    )


def _instructions(cubin: bytes) -> bytes:
    """The sections of an ELF file that hold machine code (ELF-64, little endian)."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [
        struct.unpack_from("<I20xQQ", cubin, table + index * entry_size) for index in range(count)
    ]
    names = sections[names_index][1]

    def code() -> Iterator[bytes]:
        for name, offset, size in sections:
            if cubin.startswith(b".text.", names + name):
                yield cubin[offset : offset + size]

    return b"".join(code())


def _run(program: str, *arguments: str) -> str:
    command = [str(_BINARIES / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
