"""Where a kernel under test runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.requirements import Requirement, needs_module


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("cpu", id="interpreted"),
        pytest.param("cuda", id="gpu", marks=pytest.mark.gpu),
    ],
)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The CPU, with every Triton kernel interpreted, and the GPU where there is one (`pytest -m gpu`)."""
    needs_module(Requirement.TRITON)
    if request.param == "cpu":
        from tests.support.kernels.interpreter import interpreted_kernels

        with interpreted_kernels():
            yield torch.device("cpu")
        return
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    yield torch.device("cuda")
