"""Names of kernels' parts: kernels that other processes compiled do not call each other's parts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)

from numba import extending, types

from octavo.kernels.cpu.compiling.jit import part
from octavo.kernels.cpu.compiling.part_names import distinct_name

_COMPILE = """
import sys
from octavo.kernels.cpu.products import grouped_products
for name in sys.argv[1:]:
    getattr(grouped_products, name).address
"""
# Which of them is looked up first decides whose parts both would call.
_COMPARE = (
    _COMPILE
    + """
import torch
from octavo.kernels.cpu.products.pack_grouped import pack_grouped
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from octavo.kernels.fp4 import powers_of_two
from octavo.kernels.reference.weight_only import QuantizedWeight, quantize_int8

x, weight = torch.randn(3, 64), torch.randn(32, 64)
codes = torch.randint(16, (32, 64), dtype=torch.uint8)
for panel_format, one in (
    (PanelFormat.GROUPED_INT8, quantize_int8(weight)),
    (PanelFormat.GROUPED_MXFP4, QuantizedWeight(codes, powers_of_two(torch.full((32, 2), 127)))),
):
    if one.scales.shape[1] == 1:
        one = QuantizedWeight(one.codes, one.scales.expand(-1, 2).contiguous(), None)
    got = PanelLinear(pack_grouped(one, panel_format), torch.float32, None)(x)
    torch.testing.assert_close(got, x @ one.dequantize().T)
hits = [kernel._compiled.cache_hits for kernel in (getattr(grouped_products, n) for n in sys.argv[1:])]
assert hits == [1, 1], hits
"""
)


def _run(program: str, cache: Path, *arguments: str) -> None:
    environ = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_kernels_that_two_processes_compiled_compute_in_a_third_what_they_are_for(
    tmp_path: Path,
) -> None:
    kernels = ("_float32_by_int8", "_float32_by_mxfp4")
    for name in kernels:
        _run(_COMPILE, tmp_path, name)
    _run(_COMPARE, tmp_path, *kernels)
    _run(_COMPARE, tmp_path, *reversed(kernels))


def _adder(number: object) -> Callable[..., Any]:
    def add(x: Any) -> Any:
        return x + number

    return add


def _caller(called: Any, *, named: object = None) -> Callable[..., Any]:
    def call(x: Any, also: object = named) -> Any:
        return called(x)

    return call


def _intrinsic(number: int) -> Any:
    def emit(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.add(arguments[0], arguments[0].type(number))

        return types.int64(types.int64), generate

    return extending.intrinsic(emit)


def test_a_part_of_the_same_content_has_the_same_name() -> None:
    assert distinct_name(_adder(3)) == distinct_name(_adder(3))
    assert distinct_name(_caller(_intrinsic(3))) == distinct_name(_caller(_intrinsic(3)))
    assert distinct_name(_caller(part(_adder(3)))) == distinct_name(_caller(part(_adder(3))))


def test_a_part_of_other_content_has_another_name_however_deep_that_lies() -> None:
    contents = [3, 4, 3.0, True, None, "3", (3,), [3, 4], types.int64]
    made = [
        *(_adder(one) for one in contents),
        *(_caller(_adder(one)) for one in contents),
        *(_caller(part(_adder(one))) for one in contents),
        *(_caller(part(_caller(part(_adder(one))))) for one in contents),
        *(_caller(_intrinsic(one)) for one in (3, 4)),
        *(_caller(_caller(_adder(3), named=one)) for one in contents),
    ]
    assert len({distinct_name(one) for one in made}) == len(made)


def test_a_function_that_closes_over_nothing_keeps_its_name() -> None:
    assert distinct_name(_run) == "_run"


def test_content_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="closes over <object object"):
        part(_adder(object()))
