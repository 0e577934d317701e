from __future__ import annotations

import dataclasses

import pytest
import torch

from octavo.layers.rotary import RopeConfig
from octavo.models.config import DecoderConfig
from octavo.worker.start import dtype as module
from octavo.worker.start.dtype import choose_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGE = DecoderConfig(
    architecture="LlamaForCausalLM",
    vocab_size=32000,
    hidden_size=2048,
    intermediate_size=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    rms_norm_eps=1e-5,
    max_position_embeddings=4096,
    rope=RopeConfig(),
    checkpoint_dtype="bfloat16",
)
TINY = dataclasses.replace(LARGE, hidden_size=64, num_layers=2)
LARGE_FP32 = dataclasses.replace(LARGE, checkpoint_dtype="float32")


@pytest.mark.parametrize(
    ("wanted", "config", "device", "is_fast", "expected"),
    [
        ("auto", LARGE, CPU, True, torch.bfloat16),
        ("auto", LARGE, CPU, False, torch.float32),
        ("auto", TINY, CPU, True, torch.float32),
        ("auto", LARGE_FP32, CPU, True, torch.float32),
        ("auto", TINY, CUDA, False, torch.bfloat16),
        ("auto", LARGE_FP32, CUDA, True, torch.float32),
        ("bfloat16", TINY, CPU, False, torch.bfloat16),
        ("float16", LARGE, CUDA, True, torch.float16),
    ],
)
def test_rule(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    config: DecoderConfig,
    device: torch.device,
    is_fast: bool,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda: is_fast)
    assert choose_dtype(wanted, config, device) is expected
