"""Forms of kernels. The forms of kernels that launches ask for: recorded in place of running, and compiled
without a GPU.

A kernel is compiled anew for each combination of its arguments' types, of which pointers and integers are
multiples of 16, and of its constants. Here Triton's own launch code decides that, so that what is compiled
is what the same launches look for on a GPU later, under the same name in the same cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver


@dataclass(frozen=True, slots=True)
class Form:
    """One binary of a kernel.

    Args:
        kernel: The `triton.jit` function.
        specialization: What it is compiled for, in Triton's own words (JSON).
    """

    kernel: Any
    specialization: str

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    def compile(self) -> Any:
        """Triton's compiled kernel, from the cache if it is there; within `absent_driver`."""
        return self.kernel.preload(self.specialization)

    def compile_into_cache(self) -> Path:
        """As `compile`; returns a file that is there as long as Triton finds the binary in its cache."""
        compiled = self.compile()
        metadata = next(path for path in compiled.metadata_group.values() if path.endswith(".json"))
        return Path(metadata).relative_to(cache_folder())


def cache_folder() -> Path:
    """Where Triton keeps binaries."""
    return Path(knobs.cache.dir)


@contextmanager
def absent_driver(capability: int) -> Iterator[None]:
    """Triton compiles for a GPU of this compute capability, and cannot launch, until it ends.

    Touches neither CUDA nor the kernels that the process has compiled for a GPU.
    """
    with active_driver(AbsentDriver(capability, "absent")):
        yield


@contextmanager
def recorded_launches(capability: int) -> Iterator[list[Form]]:
    """Until it ends launches run nothing; their forms are in the list, each once, in order.

    Tensors are asked for dtype and address alone.
    """
    forms: list[Form] = []
    known: set[tuple[int, str]] = set()

    def record(*, fn: Any, compile: Any, **_: object) -> bool:  # noqa: A002 (Triton's name)
        form = Form(fn.jit_function, compile["specialization_data"])
        key = (id(form.kernel), form.specialization)
        if key not in known:
            known.add(key)
            forms.append(form)
        return True  # do not compile, do not launch

    # On a device for which nothing is ever compiled: what is compiled is launched, unseen by the hook.
    with active_driver(AbsentDriver(capability, "recorded")), knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = record
        yield forms


@contextmanager
def active_driver(absent: AbsentDriver) -> Iterator[None]:
    """Until it ends, launches ask `absent`."""
    driver.set_active(absent)
    try:
        yield
    finally:
        driver.set_active(None)  # the next launch finds the machine's own


class AbsentDriver:
    """As much of a driver as compiling takes.

    Args:
        device: Triton's table of compiled kernels is by device: give a name that nobody else has.
    """

    def __init__(self, capability: int, device: str) -> None:
        self._target = GPUTarget("cuda", capability, 32)
        self._device = f"{device}-{capability}"

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> str:
        """Triton's table of compiled kernels is by device: this one is nobody else's."""
        return self._device

    def get_current_stream(self, device: str) -> int:
        del device
        return 0
