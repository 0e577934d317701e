"""Kernels compiled for A100 and H100, run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="module", params=[80, 90], ids=lambda capability: f"sm{capability}")
def capability(request: pytest.FixtureRequest) -> int:
    """What is compiled for."""
    return int(request.param)


@pytest.fixture(scope="module")
def device(capability: int) -> Iterator[torch.device]:
    """Where tensors are; launches on it run the PTX for a GPU of that capability."""
    from tests.support.kernels.kept_binaries import kept_binaries
    from tests.support.ptx_emulator.launch import emulated_launches

    with kept_binaries(), emulated_launches(capability):
        yield torch.device("cpu")
