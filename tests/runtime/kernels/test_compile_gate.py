"""Every kernel as it ships, compiled for A100 and H100 without either, and for chips with less memory.

Binaries are kept (`kept_binaries.py`), so that a run compiles what changed. They are compiled by a thread
for each core and disassembled together.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
import triton
import triton.language as tl

import octavo.kernels.gpu
from octavo.kernels.gpu.compiling.compile import ShippedConfiguration, compile_configuration
from octavo.kernels.gpu.compiling.machine_code import Binary, Resources, resources_of
from octavo.kernels.gpu.tuning.chips import max_shared_bytes
from tests.support.kernels.kept_binaries import kept_binaries

# All kernels are compiled before the first test: after a change of Triton that is minutes of work.
pytestmark = pytest.mark.timeout(1200)

Form = tuple[ShippedConfiguration, int]


def shipped() -> Iterator[tuple[str, ShippedConfiguration]]:
    prefix = f"{octavo.kernels.gpu.__name__}."
    for info in pkgutil.walk_packages(octavo.kernels.gpu.__path__, prefix):
        module = importlib.import_module(info.name)
        if hasattr(module, "shipped_configurations"):
            for configuration in module.shipped_configurations():
                yield info.name.removeprefix(prefix), configuration


def test_every_file_that_ships_a_kernel_passes_the_gate() -> None:
    folder = Path(octavo.kernels.gpu.__path__[0])
    shipping = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if "\ndef shipped_configurations(" in path.read_text(encoding="utf-8")
    }
    assert shipping
    assert {module for module, _ in shipped()} == shipping


@pytest.fixture(scope="module")
def compiler_cache() -> Iterator[None]:
    with kept_binaries():
        yield


def compiled(form: Form) -> Binary | Exception:
    try:
        try:
            return compile_configuration(*form)
        except (
            SystemError
        ):  # rarely CPython 3.11 loses count when threads parse Python side by side
            return compile_configuration(*form)
    except Exception as error:  # belongs to this form's test, not to all of them
        return error


@pytest.fixture(scope="module")
def resources(
    request: pytest.FixtureRequest, compiler_cache: None
) -> Mapping[str, Resources | Exception]:
    """By test id, of the forms that this run tests; or why one could not be compiled."""
    forms = {
        item.callspec.id: cast("Form", item.callspec.params["form"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.function is test_a_shipped_kernel_fits_the_chip
    }
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        compiled_forms = dict(zip(forms, threads.map(compiled, forms.values()), strict=True))
    results: dict[str, Resources | Exception] = {
        name: result for name, result in compiled_forms.items() if isinstance(result, Exception)
    }
    for capability in {capability for _, capability in forms.values()}:
        binaries = {
            name: result
            for name, result in compiled_forms.items()
            if isinstance(result, Binary) and forms[name][1] == capability
        }
        results |= zip(binaries, resources_of(list(binaries.values()), capability), strict=True)
    return results


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            (configuration, capability), id=f"{module}-{configuration.name}-sm{capability}"
        )
        for module, configuration in shipped()
        for capability in configuration.capabilities
    ],
)
def test_a_shipped_kernel_fits_the_chip(
    form: Form, resources: Mapping[str, Resources | Exception], request: pytest.FixtureRequest
) -> None:
    configuration, capability = form
    found = resources[request.node.callspec.id]
    if isinstance(found, Exception):
        raise found

    assert found.spill_instructions == 0, found
    assert found.narrow_loads <= configuration.max_narrow_loads, found
    for chip in (capability, *configuration.shares_tiles_with):
        assert found.shared_bytes <= max_shared_bytes(chip), (chip, found)
    if configuration.uses_wgmma and capability == 90:
        assert found.wgmma_instructions > 0, found
    if configuration.overlaps_copies:
        assert found.copy_groups_in_flight > 0, found


@triton.jit
def _keeps_too_much(source, target, SIZE: tl.constexpr):
    rows = tl.arange(0, SIZE)
    index = rows[:, None] * SIZE + rows[None, :]
    values = tl.load(source + index)
    once = tl.dot(values, values)
    twice = tl.dot(once.to(tl.bfloat16), values)
    tl.store(target + index, once * twice + tl.dot(twice.to(tl.bfloat16), once.to(tl.bfloat16)))


def test_the_gate_notices_spills_wgmma_and_shared_memory(compiler_cache: None) -> None:
    binaries = [
        compile_configuration(
            ShippedConfiguration(
                name="too much",
                kernel=_keeps_too_much,
                arguments={"source": "*bf16", "target": "*fp32"},
                constants={"SIZE": 64},
                num_warps=num_warps,
                num_stages=1,
            ),
            90,
        )
        for num_warps in (1, 4)
    ]

    one_warp, four_warps = resources_of(binaries, 90)

    assert one_warp.spill_instructions > 0
    assert one_warp.wgmma_instructions == 0
    assert four_warps.spill_instructions == 0
    assert four_warps.wgmma_instructions > 0
    assert four_warps.shared_bytes >= 64 * 64 * 2


def test_the_gate_notices_logits_that_are_loaded_one_by_one(compiler_cache: None) -> None:
    (apart,) = (
        form
        for module, form in shipped()
        if (module, form.name) == ("sampling.logprobs", "odd-bf16")
    )
    constants = {**apart.constants, "READABLE": apart.constants["VOCAB"]}
    dense = dataclasses.replace(apart, constants=constants)
    binaries = [compile_configuration(form, 90) for form in (apart, dense)]

    found_apart, found_dense = resources_of(binaries, 90)

    assert found_apart.narrow_loads == 1, "the token's own logit"
    assert found_dense.narrow_loads > apart.max_narrow_loads


def test_kernels_disassembled_together_read_as_each_would_alone(compiler_cache: None) -> None:
    forms = [form for _, form in shipped()][:3]
    binaries = [compile_configuration(form, 80) for form in forms]

    together = resources_of(binaries, 80)

    assert together == [resources_of([binary], 80)[0] for binary in binaries]
