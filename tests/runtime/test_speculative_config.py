from __future__ import annotations

from typing import Any

import msgspec
import pytest

from octavo.config import EngineConfig
from octavo.errors import InvalidConfigurationError
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
from octavo.worker.start.create import create_executor
from tests.support.runtime.command_line import parsed


@pytest.mark.parametrize(
    ("given", "lookup"),
    [
        ({}, (2, 5)),
        ({"prompt_lookup_min": 3}, (3, 3)),
        ({"prompt_lookup_max": 4}, (4, 4)),
        ({"prompt_lookup_min": 1, "prompt_lookup_max": 4}, (1, 4)),
    ],
)
def test_the_flag_is_json_of_vllms_names(given: dict[str, Any], lookup: tuple[int, int]) -> None:
    text = msgspec.json.encode({"method": "ngram", "num_speculative_tokens": 7} | given).decode()
    engine = parsed(["serve", "builtin://demo", "--speculative-config", text]).engine
    config = engine.speculative_config
    assert config is not None
    assert (config.method, config.num_speculative_tokens) == (SpeculativeMethod.NGRAM, 7)
    assert config.lookup == lookup
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(engine), type=EngineConfig)
    assert wire == engine


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "speculative_config is not JSON."),
        ("[]", "speculative_config is []; give an object"),
        ({}, "speculative_config lacks method. Use ngram, draft_model, eagle3."),
        ({"method": "medusa"}, "speculative_config: method is 'medusa'. Use ngram"),
        (
            {"method": "ngram", "k": 3},
            "speculative_config holds 'k', which is not known. Use method,",
        ),
        ({"method": "ngram", "num_speculative_tokens": 33}, "must lie in [1, 32]"),
        ({"method": "ngram", "num_speculative_tokens": "4"}, "Expected `int`, got `str`"),
        (
            {"method": "ngram", "prompt_lookup_min": 0},
            "prompt_lookup_min is 0; it must lie in [1, 16]",
        ),
        (
            {"method": "ngram", "prompt_lookup_min": 4, "prompt_lookup_max": 3},
            "prompt_lookup_min is 4; it must be at most prompt_lookup_max, 3.",
        ),
        ({"method": "ngram", "model": "x"}, "model is for methods draft_model and eagle3"),
        ({"method": "eagle3"}, "method eagle3 needs model"),
        ({"method": "eagle3", "model": "x", "prompt_lookup_max": 2}, "is for method ngram"),
    ],
)
def test_what_is_wrong_is_named(given: object, message: str) -> None:
    with pytest.raises(InvalidConfigurationError) as refused:
        SpeculativeConfig.read(given)
    assert message in str(refused.value)
    assert str(refused.value).startswith("speculative_config")


def test_ranks_run_no_drafts() -> None:
    config = EngineConfig(
        model="runtime/octavo/builtin/demo",
        tensor_parallel_size=2,
        speculative_config=SpeculativeConfig(method=SpeculativeMethod.NGRAM),
    )
    with pytest.raises(InvalidConfigurationError, match="ranks run no drafts so far"):
        create_executor(config)
