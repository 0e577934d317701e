"""Whether a start rounds activations to FP8: by the GPU, the user's wish, and a first product."""

from __future__ import annotations

import logging

import pytest
import torch

from octavo.config import EngineConfig
from octavo.quantization import StoredFormat, stored_format
from octavo.worker.start.rounded_inputs import rounds_inputs, wants_rounded_inputs
from tests.support.requirements import Requirement, needs_module

needs_module(Requirement.TRITON)
from octavo.kernels.gpu.scaled import support

FP8 = stored_format({"quant_method": "fp8", "activation_scheme": "dynamic"})
CUDA = torch.device("cuda")
CONFIG = EngineConfig(model="m")
KEPT = EngineConfig(model="m", quantize_activations=False)


@pytest.mark.parametrize(
    ("config", "device", "stored", "capability", "expected"),
    [
        (CONFIG, CUDA, FP8, (9, 0), True),
        (CONFIG, CUDA, FP8, (8, 9), True),
        (CONFIG, CUDA, FP8, (8, 6), False),
        (CONFIG, CUDA, None, (9, 0), False),
        (CONFIG, torch.device("cpu"), FP8, (9, 0), False),
        (KEPT, CUDA, FP8, (9, 0), False),
    ],
)
def test_activations_are_rounded_where_the_gpu_multiplies_and_the_user_takes_it(
    config: EngineConfig,
    device: torch.device,
    stored: StoredFormat | None,
    capability: tuple[int, int],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert wants_rounded_inputs(config, device, stored) is expected


def test_a_gpu_that_fails_at_a_first_product_keeps_activations_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(support, "float8_fault", lambda _: None)
    assert rounds_inputs(CONFIG, CUDA, FP8)
    monkeypatch.setattr(support, "float8_fault", lambda _: "no build for it")
    with caplog.at_level(logging.WARNING):
        assert not rounds_inputs(CONFIG, CUDA, FP8)
    assert "no build for it" in caplog.text
    assert "--no-quantize-activations" in caplog.text
    caplog.clear()
    assert not rounds_inputs(KEPT, CUDA, FP8)
    assert caplog.text == ""
