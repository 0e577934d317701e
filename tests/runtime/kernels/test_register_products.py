"""Products with AMX: against double precision with the instructions emulated, and on a CPU that has them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numba
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.NUMBA)
from octavo.kernels.cpu.products import panel_linear, register_products
from octavo.kernels.cpu.products.pack_panels import pack
from octavo.kernels.cpu.products.panel_linear import PanelLinear
from octavo.kernels.cpu.products.weight_panels import PanelFormat
from octavo.kernels.matrix_units import may_use_matrix_units
from tests.support.kernels.emulated_tiles import emulated_tiles
from tests.support.kernels.exact_products import check, numbers
from tests.support.kernels.poison import poisoned_memory


@pytest.fixture(scope="module")
def emulated() -> Any:
    with emulated_tiles():
        multiply = register_products.make_multiply()

        def run(address: int) -> None:
            multiply(address)

        return numba.cfunc("void(int64)", error_model="numpy", boundscheck=False)(run)


@pytest.fixture
def registers(emulated: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights in bfloat16 take the way of CPUs with AMX."""
    monkeypatch.setattr(register_products, "BY_REGISTERS", emulated)
    monkeypatch.setattr(panel_linear, "multiplies_by_registers", lambda: True)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    with poisoned_memory():
        return PanelLinear(pack(weight, PanelFormat.BFLOAT16), torch.bfloat16, bias)(x)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.sampled_from([0, 1, 2, 15, 16, 17, 31, 32, 33, 129, 600]) | st.integers(0, 200),
    sixteenths=st.integers(1, 9),
    steps=st.integers(1, 24),
    has_bias=st.booleans(),
    threads=st.integers(1, 3),
)
def test_products_equal_those_in_double_precision(
    registers: None, rows: int, sixteenths: int, steps: int, has_bias: bool, threads: int
) -> None:
    """Depths of less than a chunk of a panel, whole chunks of it and parts."""
    torch.set_num_threads(threads)
    width, depth = 16 * sixteenths, 32 * steps
    weight = numbers(width, depth, seed=depth).bfloat16()
    bias = numbers(width, seed=2).bfloat16() if has_bias else None
    x = numbers(rows, depth, seed=3).bfloat16()
    result = product(x, weight, bias)
    assert result.dtype is torch.bfloat16
    check(result, x, weight, bias)


def test_a_row_comes_out_the_same_alone_and_among_a_thousand(registers: None) -> None:
    """More rows than one block holds, and blocks that end in a few."""
    weight = numbers(80, 1056).bfloat16()
    linear = PanelLinear(pack(weight, PanelFormat.BFLOAT16), torch.bfloat16, None)
    x = numbers(1001, 1056, seed=1).bfloat16()
    together = linear(x)
    for first, last in ((0, 1), (3, 5), (7, 20), (500, 530), (400, 433), (0, 513), (990, 1001)):
        assert torch.equal(linear(x[first:last]), together[first:last])


@given(rows=st.integers(0, 5000), steps=st.integers(1, 1000))
def test_blocks_are_whole_groups_that_hold_all_rows_evenly(rows: int, steps: int) -> None:
    depth = 32 * steps
    block = register_products.block_rows_of(rows, depth)
    assert block % 32 == 0
    if not rows:
        return
    blocks = -(-rows // block)
    assert block <= max(2**20 // (2 * depth), 32)
    assert block * blocks - rows < 32 * blocks


@pytest.mark.parametrize("is_right", [True, False])
def test_registers_are_used_where_a_small_product_comes_out_right(
    registers: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_right: bool,
) -> None:
    """The wrong kernel leaves the output as it was."""
    monkeypatch.undo()
    right = panel_linear._KERNELS[torch.bfloat16, PanelFormat.BFLOAT16]
    wrong = numba.cfunc("void(int64)")(lambda address: None)
    monkeypatch.setattr(register_products, "BY_REGISTERS", right if is_right else wrong)
    monkeypatch.setattr(panel_linear, "may_use_matrix_units", lambda: True)
    with caplog.at_level(logging.INFO, logger=panel_linear.__name__), poisoned_memory():
        assert panel_linear.multiplies_by_registers.__wrapped__() is is_right
    assert [record.levelname for record in caplog.records] == ["INFO" if is_right else "ERROR"]
    assert "OCTAVO_AMX=0" in caplog.text


def test_a_process_that_may_not_use_amx_never_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_products, "BY_REGISTERS", None)
    monkeypatch.setattr(panel_linear, "may_use_matrix_units", lambda: False)
    assert not panel_linear.multiplies_by_registers.__wrapped__()


def test_the_emulation_is_found_right(emulated: Any) -> None:
    assert panel_linear.error_of(emulated) <= panel_linear.LARGEST_ERROR / 2


@pytest.mark.skipif(not may_use_matrix_units(), reason="a CPU without AMX")
@pytest.mark.parametrize("rows", [1, 9, 16, 27, 32, 200])
def test_the_cpu_does_to_the_bit_what_the_emulation_does(
    registers: None, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    weight, x = numbers(112, 1056).bfloat16(), numbers(rows, 1056, seed=1).bfloat16()
    bias = numbers(112, seed=2).bfloat16()
    emulated = product(x, weight, bias)
    monkeypatch.undo()
    assert panel_linear.multiplies_by_registers()
    assert torch.equal(product(x, weight, bias), emulated)
