from __future__ import annotations

import pytest
import torch

from octavo.models.base import ModelConfig
from octavo.models.registry import read_config
from octavo.worker.start import dtype as module
from octavo.worker.start.dtype import choose_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def llama(**changes: object) -> ModelConfig:
    fields: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32000,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "dtype": "bfloat16",
    }
    return read_config(fields | changes)


LARGE = llama()
TINY = llama(hidden_size=64, head_dim=64, num_hidden_layers=2)
LARGE_FP32 = llama(dtype="float32")


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
def test_auto_is_what_model_and_device_have_and_a_name_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    config: ModelConfig,
    device: torch.device,
    is_fast: bool,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(module, "has_fast_bfloat16", lambda: is_fast)
    assert choose_dtype(wanted, config, device) is expected
