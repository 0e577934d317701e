"""Runs Triton kernels on CPU tensors, in a process that also compiles them.

`TRITON_INTERPRET=1` must be set before the first import of triton, which another test of the same process
may have done already, and it leaves nothing to compile. Here the kernels of `octavo.kernels.gpu` and those
of Triton's own library are exchanged for interpreted ones, and put back.

The interpreter computes bfloat16 wrongly without a word: use float16 and float32.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import triton.experimental.gluon  # noqa: F401 (looks at Triton's library at import: must precede the exchange)
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

import octavo.kernels.gpu


@contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Until it ends, every launch in `octavo.kernels.gpu` takes CPU tensors."""
    package = octavo.kernels.gpu
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    interpreted: dict[int, InterpretedFunction] = {}
    exchanged = []
    for name, module in list(sys.modules.items()):
        if not name.startswith((package.__name__, "triton.language")):
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, JITFunction):
                twin = interpreted.setdefault(id(value), InterpretedFunction(value.fn))
                exchanged.append((module, attribute, value))
                setattr(module, attribute, twin)
    # The interpreter patches these and leaves some of it behind when a kernel calls into Triton's library.
    languages = [(language, dict(vars(language))) for language in (tl, tl.core, tl.math)]
    try:
        yield
    finally:
        for language, members in languages:
            for name, value in members.items():
                setattr(language, name, value)
        for module, attribute, value in exchanged:
            setattr(module, attribute, value)
