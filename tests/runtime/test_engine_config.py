"""What an engine is never started with."""

from __future__ import annotations

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
