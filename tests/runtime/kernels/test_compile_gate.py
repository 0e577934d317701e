"""Every kernel as it ships, compiled for A100 and H100 without either."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
import triton
import triton.language as tl

import octavo.kernels.gpu
from octavo.kernels.gpu.compile import (
    MAX_SHARED_BYTES,
    Resources,
    ShippedConfiguration,
    compile_configuration,
)


def shipped() -> Iterator[tuple[str, ShippedConfiguration]]:
    package = octavo.kernels.gpu
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "shipped_configurations"):
            for configuration in module.shipped_configurations():
                yield info.name, configuration


@pytest.fixture(scope="module", autouse=True)
def compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        yield


@pytest.mark.parametrize(
    ("configuration", "capability"),
    [
        pytest.param(configuration, capability, id=f"{module}-{configuration.name}-sm{capability}")
        for module, configuration in shipped()
        for capability in configuration.capabilities
    ],
)
def test_a_shipped_kernel_fits_the_chip(
    configuration: ShippedConfiguration, capability: int
) -> None:
    resources = compile_configuration(configuration, capability)

    assert resources.spill_instructions == 0, resources
    assert resources.shared_bytes <= MAX_SHARED_BYTES[capability], resources
    if configuration.uses_wgmma and capability == 90:
        assert resources.wgmma_instructions > 0, resources
    if configuration.overlaps_copies:
        assert resources.copy_groups_in_flight > 0, resources


@triton.jit
def _keeps_too_much(source, target, SIZE: tl.constexpr):
    rows = tl.arange(0, SIZE)
    index = rows[:, None] * SIZE + rows[None, :]
    values = tl.load(source + index)
    once = tl.dot(values, values)
    twice = tl.dot(once.to(tl.bfloat16), values)
    tl.store(target + index, once * twice + tl.dot(twice.to(tl.bfloat16), once.to(tl.bfloat16)))


def test_the_gate_notices_spills_wgmma_and_shared_memory() -> None:
    def compiled(num_warps: int) -> Resources:
        configuration = ShippedConfiguration(
            name="too much",
            kernel=_keeps_too_much,
            arguments={"source": "*bf16", "target": "*fp32"},
            constants={"SIZE": 64},
            num_warps=num_warps,
            num_stages=1,
        )
        return compile_configuration(configuration, 90)

    one_warp, four_warps = compiled(1), compiled(4)

    assert one_warp.spill_instructions > 0
    assert one_warp.wgmma_instructions == 0
    assert four_warps.spill_instructions == 0
    assert four_warps.wgmma_instructions > 0
    assert four_warps.shared_bytes >= 64 * 64 * 2
