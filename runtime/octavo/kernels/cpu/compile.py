"""`python -m octavo.kernels.cpu.compile`: compiles every kernel into numba's cache, without running one.

For an image: `NUMBA_CACHE_DIR` says where to, `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` for which CPU,
which need not be this one.
"""

from __future__ import annotations

import importlib

from octavo.kernels.cpu import jit

# The modules that declare kernels.
_MODULES = ("gated_activation", "paged_decode", "rms_norm", "rope_and_cache", "small_linear")

if __name__ == "__main__":
    for name in _MODULES:
        importlib.import_module(f"octavo.kernels.cpu.{name}")
    jit.compile_all()
