"""What an engine is never started with."""

from __future__ import annotations

import re
from typing import Any

import pytest

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError


@pytest.mark.parametrize("length", [-1, 0, 1])
def test_a_context_holds_a_token_of_prompt_and_one_of_output(length: int) -> None:
    with pytest.raises(
        InvalidConfigurationError, match=f"max_model_len is {length}; .* at least 2"
    ):
        EngineConfig(model="m", max_model_len=length)
    assert EngineConfig(model="m", max_model_len=2).max_model_len == 2


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"max_num_seqs": "8"}, "an integer"),
        ({"max_num_batched_tokens": 1.5}, "an integer"),
        ({"max_model_len": "8k"}, "an integer, or None"),
        ({"kv_cache_memory_bytes": True}, "an integer, or None"),
        ({"seed": None}, "an integer"),
        ({"gpu_memory_utilization": "0.9"}, "a number"),
        ({"enable_prefix_caching": "no"}, "True or False"),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_named(fields: dict[str, Any], wanted: str) -> None:
    ((name, value),) = fields.items()
    expected = re.escape(f"{name} is {value!r}; it must be {wanted}.")
    with pytest.raises(InvalidConfigurationError, match=f"^{expected}$"):
        EngineConfig(model="m", **fields)
