"""Interpreter of Triton kernels, on CPU tensors, in a process that also compiles them.

`TRITON_INTERPRET=1` must be set before the first import of triton, which another test of the same process
may have done already, and it leaves nothing to compile. Here the kernels of `octavo.kernels.gpu` and those
of Triton's own library are exchanged for interpreted ones, and put back.

Where a GPU promises less than the interpreter does, the GPU counts: programs run in any order, and what a
masked load finds without a value in its place is poison. bfloat16, which the interpreter alone computes
wrongly without a word, is rounded as a GPU rounds it (`narrow_floats.py`).
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import triton.experimental.gluon  # noqa: F401 (looks at Triton's library at import: must precede the exchange)
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction, TensorHandle, interpreter_builder
from triton.runtime.jit import JITFunction

import octavo.kernels.gpu

from .narrow_floats import narrow_floats


@contextmanager
def interpreted_kernels() -> Iterator[None]:
    """Until it ends, every launch in `octavo.kernels.gpu` takes CPU tensors."""
    package = octavo.kernels.gpu
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)
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
        with (
            narrow_floats(),
            _programs_in_any_order(),
            _poison_behind_masks(),
            _language_exchanged_once(),
        ):
            yield
    finally:
        for language, members in languages:
            for name, value in members.items():
                setattr(language, name, value)
        for module, attribute, value in exchanged:
            setattr(module, attribute, value)


@contextmanager
def _language_exchanged_once() -> Iterator[None]:
    """Calls within a kernel do not exchange the language's functions anew, a third of the interpreter's time.

    A launch exchanges those of `tl` and puts them back; those of `tl.core`, on which Triton's library is
    built, stay exchanged from the first call that names it.
    """
    call = InterpretedFunction.__call__
    is_library_exchanged = False

    def call_in_kernel(self: InterpretedFunction, *arguments: object, **named: object) -> object:
        nonlocal is_library_exchanged
        uses_library = any(value is tl.core for value in self.fn.__globals__.values())
        if uses_library and not is_library_exchanged:
            is_library_exchanged = True
            return call(self, *arguments, **named)
        return self.rewrite()(*arguments, **named)

    with mock.patch.object(InterpretedFunction, "__call__", call_in_kernel):
        yield


@contextmanager
def _programs_in_any_order() -> Iterator[None]:
    """A launch's programs run in an order that is drawn for it, from the same seed in every run."""
    set_shape, set_index = interpreter_builder.set_grid_dim, interpreter_builder.set_grid_idx
    draw = np.random.default_rng(0)
    waiting: list[tuple[int, ...]] = []

    def begin(*shape: int) -> None:
        set_shape(*shape)
        programs = list(itertools.product(*map(range, shape)))
        waiting[:] = (programs[index] for index in draw.permutation(len(programs)))

    def proceed(*_: int) -> None:
        set_index(*waiting.pop())

    with mock.patch.multiple(interpreter_builder, set_grid_dim=begin, set_grid_idx=proceed):
        yield


@contextmanager
def _poison_behind_masks() -> Iterator[None]:
    """Lanes that a mask leaves out hold NaN or all bits set where the kernel names no value for them."""
    load = interpreter_builder.create_masked_load

    def load_or_poison(
        pointers: TensorHandle,
        mask: TensorHandle,
        other: TensorHandle | None,
        *policies: object,
        **named: object,
    ) -> TensorHandle:
        loaded = load(pointers, mask, other, *policies, **named)
        if other is None and not mask.data.all():
            loaded.data.view(np.uint8).reshape(*loaded.data.shape, -1)[~mask.data] = 0xFF
        return loaded

    with mock.patch.object(interpreter_builder, "create_masked_load", load_or_poison):
        yield
