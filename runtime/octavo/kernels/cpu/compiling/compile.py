"""Compilation of all CPU kernels. `python -m octavo.kernels.cpu.compiling.compile`: compiles every kernel
into numba's cache; runs none.

For an image: `NUMBA_CACHE_DIR` says where to, `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` for which CPU,
which need not be this one. With `--all-targets` it does so for every one of `numba_setup.TARGETS`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

from octavo.kernels.cpu.compiling import jit
from octavo.kernels.numba_setup import TARGETS

# The modules that declare kernels.
_MODULES = (
    "attention.paged_decode",
    "attention.paged_prefill",
    "attention.rope_and_cache",
    "compiling.program",
    "gated_activation",
    "stream_sum",
    "products.grouped_products",
    "products.pack_grouped",
    "products.pack_panels",
    "products.panel_products",
    "products.panel_rows",
    "products.register_products",
    "products.small_linear",
    "rms_norm",
    "sampling.long_rows",
    "sampling.random_bits",
)


def _compile_for_all_targets() -> None:
    """In a process for each: numba has one target for life."""
    for target in TARGETS:
        chosen = {"NUMBA_CPU_NAME": target.level, "NUMBA_CPU_FEATURES": target.features}
        subprocess.run(
            [sys.executable, "-m", "octavo.kernels.cpu.compiling.compile"],
            env=os.environ | chosen,
            check=True,
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["--all-targets"]:
        _compile_for_all_targets()
    else:
        for name in _MODULES:
            importlib.import_module(f"octavo.kernels.cpu.{name}")
        jit.compile_all()
