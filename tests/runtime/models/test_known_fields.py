"""Fields of config.json: published ones are taken, those that may change the mathematics are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.models.config_reader import ConfigReader
from octavo.models.harmless_fields import is_harmless
from octavo.models.registry import FAMILIES, read_config
from tests.support.runtime.published_configs import PUBLISHED

CLASSES: dict[str, Any] = {
    "Bloom": transformers.BloomConfig,
    "MPT": transformers.MptConfig,
    "Mpt": transformers.MptConfig,
    "GPTNeoX": transformers.GPTNeoXConfig,
    "Falcon": transformers.FalconConfig,
    "Gemma2": transformers.Gemma2Config,
    "Gemma3": transformers.Gemma3TextConfig,
    "Granite": transformers.GraniteConfig,
    "Llama": transformers.LlamaConfig,
    "Mistral": transformers.MistralConfig,
    "Mixtral": transformers.MixtralConfig,
    "Phi": transformers.PhiConfig,
    "Phi3": transformers.Phi3Config,
    "Qwen2": transformers.Qwen2Config,
    "Qwen2Moe": transformers.Qwen2MoeConfig,
    "Qwen3": transformers.Qwen3Config,
    "Qwen3Moe": transformers.Qwen3MoeConfig,
}


POST_NORM = "apply_residual_connection_post_layernorm"


def raw_of(family: str, **fields: Any) -> dict[str, Any]:
    raw = json.loads(CLASSES[family]().to_json_string(use_diff=False))
    return {**raw, "architectures": [f"{family}ForCausalLM"], **fields}


def test_the_families_are_these() -> None:
    assert {f"{family}ForCausalLM" for family in CLASSES} == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(CLASSES))
def test_what_transformers_writes_by_default_is_taken(family: str) -> None:
    read_config(raw_of(family))


@pytest.mark.parametrize("family", sorted(CLASSES))
def test_a_missing_field_means_what_it_means_to_transformers(family: str) -> None:
    """All but the sizes and the end tokens left out."""
    full = raw_of(family)
    kept = (
        "architectures",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "eos_token_id",
    )
    assert read_config({name: full[name] for name in kept if name in full}) == read_config(full)


def test_the_name_of_the_weights_file_is_left_to_those_who_load_it() -> None:
    read_config(raw_of("Llama", transformers_weights="best.safetensors"))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_checkpoints_are_taken(name: str) -> None:
    family, fields = PUBLISHED[name]
    read_config(raw_of(family, **fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logit_scale": 0.0625}, r"logit_scale \(0\.0625\)"),
        ({"residual_multiplier": 0.22}, "residual_multiplier"),
        ({"use_qk_norm": True}, "use_qk_norm"),
        ({"no_rope_layers": [1, 0]}, "no_rope_layers"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size"),
        ({"is_causal": False}, "is_causal"),
        ({"rope_interleaved": True}, "rope_interleaved"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"a": 1, "b": 2}, r"a \(1\), b \(2\)"),
    ],
)
def test_what_may_change_the_mathematics_is_refused_by_name(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read_config(raw_of("Llama", **fields))


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        (
            "Bloom",
            {"slow_but_exact": True, "pretraining_tp": 2},
            "slow_but_exact is true.*tp above",
        ),
        ("Bloom", {POST_NORM: True}, f"{POST_NORM} is true: .* Octavo does not compute"),
        ("Falcon", {POST_NORM: True}, f"{POST_NORM} is true: .* Octavo does not compute"),
    ],
)
def test_what_is_known_and_not_computed_is_refused_as_that(
    family: str, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=words):
        read_config(raw_of(family, **fields))
    for name in fields:  # each needs the other
        if len(fields) > 1:
            read_config(raw_of(family, **{name: fields[name]}))


@settings(deadline=None)
@given(
    st.sampled_from(sorted(CLASSES)),
    st.text("abcdefghijklmnopqrstuvwxyz_", min_size=2, max_size=24),
    st.one_of(st.booleans(), st.integers(1, 9), st.floats(0.1, 2.0), st.text(max_size=5)),
)
def test_a_field_that_nobody_knows_is_refused(family: str, name: str, value: object) -> None:
    raw = raw_of(family)
    reader = ConfigReader(raw)
    FAMILIES[f"{family}ForCausalLM"](reader)
    if name in raw or name in reader._read or is_harmless(name, value):
        return
    with pytest.raises(ModelUnsupportedError, match=name):
        read_config({**raw, name: value})
    read_config({**raw, name: None})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, True, "1"], ids=str)
def test_a_number_is_finite(value: object) -> None:
    for look_up in (ConfigReader.number, ConfigReader.epsilon):
        with pytest.raises(ModelInvalidError, match=r"part\.eps is .*; it must be a"):
            look_up(ConfigReader({"eps": value}, "part"), "eps", 1.0)


@pytest.mark.parametrize("architecture", sorted(FAMILIES))
def test_no_norm_adds_less_than_nothing(architecture: str) -> None:
    """Every family's norm; a square's mean that is below 0 has no root, and all scores would be NaN."""
    raw = raw_of(architecture.removesuffix("ForCausalLM"))
    names = [name for name in raw if name.endswith(("eps", "epsilon"))]
    assert names
    for name in names:
        with pytest.raises(ModelInvalidError, match=f"{name} is -0.1; it must be 0 or more"):
            read_config(raw | {name: -0.1})
