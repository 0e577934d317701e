from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.config import EngineConfig
from octavo.draft_source import with_draft_model
from octavo.errors import InvalidConfigurationError, ModelNotFoundError
from octavo.speculative_config import SpeculativeConfig, SpeculativeMethod
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
        ("{", "speculative_config is not JSON: "),
        ("[" * 100_000, "speculative_config is nested too deeply."),
        ('{"method": "ngram", "model": "\\ud800"}', "speculative_config is not JSON: "),
        (
            '{"method": "ngram", "num_speculative_tokens": 4, "num_speculative_tokens": 8}',
            "speculative_config holds the key 'num_speculative_tokens' twice; give it once.",
        ),
        ("[]", "speculative_config is []; give an object"),
        ("null", "speculative_config is null; give an object"),
        ('{"method": null}', "speculative_config: method is null. Use ngram"),
        ({}, "speculative_config lacks method. Use ngram, draft_model, eagle3."),
        ({"method": "medusa"}, "speculative_config: method is 'medusa'. Use ngram"),
        ({"method": ["ngram"]}, "speculative_config: method is ['ngram']. Use ngram"),
        ({"method": {"ngram": 1}}, "speculative_config: method is {'ngram': 1}. Use ngram"),
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


NGRAM = SpeculativeConfig(method=SpeculativeMethod.NGRAM)


@pytest.mark.parametrize("method", [SpeculativeMethod.DRAFT_MODEL, SpeculativeMethod.EAGLE3])
def test_what_guesses_is_fetched(tmp_path: Path, method: SpeculativeMethod) -> None:
    for config in (NGRAM, None):
        engine = EngineConfig(model="x", speculative_config=config)
        assert with_draft_model(engine, download_dir=tmp_path) == engine
    wanted = SpeculativeConfig(method=method, model="builtin://demo")
    engine = EngineConfig(model="x", speculative_config=wanted)
    found = with_draft_model(engine, download_dir=tmp_path).speculative_config
    assert found is not None
    assert found.model is not None
    assert (Path(found.model) / "config.json").exists()


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_of_what_guesses_that_is_missing_is_named_by_its_field(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    wanted = SpeculativeConfig(method=SpeculativeMethod.EAGLE3, model=str(tmp_path / name))
    with pytest.raises(ModelNotFoundError, match=rf"^speculative_config\.model: .*{name}"):
        with_draft_model(EngineConfig(model="x", speculative_config=wanted), download_dir=None)
