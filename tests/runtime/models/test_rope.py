"""Rotary tables and contexts are those of transformers, whatever stands in config.json."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo import LLM
from octavo.errors import InvalidConfigurationError, ModelInvalidError, ModelUnsupportedError
from octavo.layers.rotary import RopeScaling, RotaryTable, paired_channels
from octavo.models.base import ModelConfig
from octavo.models.registry import read_config
from tests.support.runtime.checkpoints import VOCAB, make_checkpoint, save_word_tokenizer
from tests.support.runtime.tiny_llama import save_tiny_llama

HEAD_DIM = 64
SIZES: dict[str, Any] = {
    "vocab_size": 10,
    "hidden_size": 2 * HEAD_DIM,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "head_dim": HEAD_DIM,
    "pad_token_id": 0,
}
CLASSES = {
    "Falcon": transformers.FalconModel,
    "GPTNeoX": transformers.GPTNeoXModel,
    "Granite": transformers.GraniteModel,
    "Llama": transformers.LlamaModel,
    "Mistral": transformers.MistralModel,
    "Mixtral": transformers.MixtralModel,
    "Phi": transformers.PhiModel,
    "Phi3": transformers.Phi3Model,
    "Qwen2": transformers.Qwen2Model,
    "Qwen2Moe": transformers.Qwen2MoeModel,
    "Qwen3": transformers.Qwen3Model,
    "Qwen3Moe": transformers.Qwen3MoeModel,
    "Gemma2": transformers.Gemma2Model,
}
# Families that may turn a part of a head.
PARTIAL = ("GPTNeoX", "Phi", "Phi3")
# What a family calls otherwise, or works out.
FOREIGN = {"Falcon": ("head_dim", "intermediate_size", "num_key_value_heads")}


def sizes(family: str) -> dict[str, Any]:
    foreign = FOREIGN.get(family, ())
    return {name: value for name, value in SIZES.items() if name not in foreign}


def ours(raw: dict[str, Any], family: str = "Llama") -> ModelConfig:
    return read_config({**sizes(family), **raw, "architectures": [f"{family}ForCausalLM"]})


def theirs(raw: dict[str, Any], family: str = "Llama") -> Any:
    """transformers' rotary module of the same config.json."""
    fields = json.loads(
        json.dumps({**sizes(family), **raw})
    )  # their class changes what it is given
    return rotary_class(family)(CLASSES[family].config_class.from_dict(fields))


@functools.cache
def rotary_class(family: str) -> Any:
    config = CLASSES[family].config_class.from_dict(sizes(family))
    with torch.device("meta"):
        return type(CLASSES[family](config).rotary_emb)


def tables(raw: dict[str, Any], positions: int, family: str = "Llama") -> tuple[Any, Any]:
    """cos and sin of both, `[2, positions, channels that turn]`."""
    (rope,) = ours(raw, family).spec.rotary
    table = RotaryTable(rope, HEAD_DIM, positions, dtype=torch.float32, device=torch.device("cpu"))
    cos, sin = table.at(torch.arange(positions))
    half = HEAD_DIM // 2
    sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # ours has the first half negated
    as_stored = paired_channels(HEAD_DIM, rope.width).argsort()
    got = torch.stack([cos, sin]).squeeze(2)[..., as_stored]
    width = rope.width or HEAD_DIM
    assert (got[0, :, width:] == 1.0).all()
    assert (got[1, :, width:] == 0.0).all()
    expected = theirs(raw, family)(torch.zeros(1), torch.arange(positions)[None])
    return got[..., :width], torch.cat(expected)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


factors = st.sampled_from([1.0, 2, 4.0, 8.0, 16, 40.0])
weights = st.sampled_from([None, 0, 0.5, 0.707, 1, 1.0, 1.5])
YARN = st.tuples(
    st.fixed_dictionaries({"rope_type": st.just("yarn"), "factor": factors}),
    optional(
        original_max_position_embeddings=st.sampled_from([64, 512, 4096]),
        attention_factor=st.sampled_from([None, 1.0, 0.7, 1.3]),
        beta_fast=st.sampled_from([None, 0, 16, 32.0, 64]),
        beta_slow=st.sampled_from([None, 0, 1, 2.0, 4]),
        mscale=weights,
        mscale_all_dim=weights,
        truncate=st.booleans(),
        low_freq_factor=st.just(1.0),
        finetuned=st.just(True),
    ),
)
OTHERS = st.one_of(
    st.tuples(st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": factors})),
    st.tuples(st.fixed_dictionaries({"type": st.just("linear"), "factor": factors})),
    st.tuples(st.fixed_dictionaries({"rope_type": st.just("dynamic"), "factor": factors})),
    st.tuples(optional(rope_type=st.just("default"))),
    st.tuples(
        st.fixed_dictionaries(
            {
                "rope_type": st.just("llama3"),
                "factor": factors,
                "low_freq_factor": st.sampled_from([1.0, 2]),
                "high_freq_factor": st.sampled_from([4.0, 8]),
            }
        ),
        optional(original_max_position_embeddings=st.sampled_from([64, 512, 4096])),
    ),
    st.tuples(
        st.fixed_dictionaries(
            {
                "rope_type": st.just("longrope"),
                "short_factor": st.lists(
                    st.sampled_from([1.0, 1.05, 1.5, 2]),
                    min_size=HEAD_DIM // 2,
                    max_size=HEAD_DIM // 2,
                ),
                "long_factor": st.just([3.0] * (HEAD_DIM // 2)),
                "original_max_position_embeddings": st.sampled_from([512, 4096]),
            }
        ),
        optional(factor=factors, attention_factor=st.sampled_from([None, 1.19])),
    ),
)
CONFIGS = st.tuples(
    st.one_of(YARN, OTHERS).map(lambda parts: {k: v for part in parts for k, v in part.items()}),
    optional(
        max_position_embeddings=st.sampled_from([512, 4096, 131072]),
        rope_theta=st.sampled_from([10000.0, 500000, 1e6]),
        original_max_position_embeddings=st.sampled_from([512, 4096]),
    ),
    st.sampled_from(["rope_scaling", "rope_parameters"]),
    st.one_of(st.none(), st.sampled_from([5000.0, 2e6])),
)


def raw_of(parts: Any, family: str, width: int) -> dict[str, Any]:
    scaling, outside, key, theta = parts
    if theta is not None:
        scaling = {**scaling, "rope_theta": theta}
    if family in PARTIAL:
        scaling = {**scaling, "partial_rotary_factor": width / HEAD_DIM}
        for name in scaling.keys() & {"short_factor", "long_factor"}:
            scaling[name] = scaling[name][: width // 2]
    if family == "Phi3" and scaling.get("rope_type", scaling.get("type")) != "longrope":
        scaling = {**scaling, "rope_type": "default"}
    if family == "GPTNeoX" and "rope_theta" in outside:
        outside = {**outside, "rotary_emb_base": outside["rope_theta"]}
        del outside["rope_theta"]
    return {**outside, key: scaling}


@settings(max_examples=400, deadline=None)
@given(CONFIGS, st.sampled_from(sorted(CLASSES)), st.sampled_from([4, 16, 24, 62, 64]))
def test_tables_are_those_of_transformers(parts: Any, family: str, width: int) -> None:
    raw = raw_of(parts, family, width)
    count = min(ours(raw, family).spec.context, 64)
    got, expected = tables(raw, count, family)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def gemma3_tables(raw: dict[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """cos of both, of layers that see everything and of those with a window."""
    spec = ours(raw, "Gemma3").spec
    config = transformers.Gemma3TextConfig.from_dict(json.loads(json.dumps({**SIZES, **raw})))
    config.layer_types = ["full_attention", "sliding_attention"]
    config.num_hidden_layers = 2
    theirs = transformers.models.gemma3.modeling_gemma3.Gemma3RotaryEmbedding(config)
    found = []
    for rope, kind in zip(spec.rotary, config.layer_types, strict=True):
        table = RotaryTable(rope, HEAD_DIM, 99, dtype=torch.float32, device=torch.device("cpu"))
        cos, _ = table.at(torch.arange(99))
        found.append((cos.squeeze(1), theirs(torch.zeros(1), torch.arange(99)[None], kind)[0][0]))
    return found


LINEAR = {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"rope_theta": 5e5, "rope_local_base_freq": 123.0, "rope_scaling": LINEAR},
        {"rope_parameters": {"full_attention": {**LINEAR, "rope_theta": 77.0}}},
        {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 55.0},
                "full_attention": {"rope_type": "default", "rope_theta": 66.0},
            },
            "rope_scaling": LINEAR,
        },
    ],
)
def test_gemma_3_has_a_table_for_each_kind_of_layers(raw: dict[str, Any]) -> None:
    (global_, expected_global), (local, expected_local) = gemma3_tables(raw)
    assert torch.equal(global_, expected_global)
    assert torch.equal(local, expected_local)
    assert not torch.equal(global_, local)


def test_gemma_3s_length_includes_its_scaling() -> None:
    spec = ours({"max_position_embeddings": 131072, "rope_scaling": LINEAR}, "Gemma3").spec
    assert (spec.context, spec.default_context) == (131072, 131072)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"full_attention": {"rope_type": "linear", "factor": 2.0, "alpha": 1.0}},
        {"full_attention": {"partial_rotary_factor": 0.5}},
        {"chunked_attention": {"rope_type": "default"}},
        # transformers does not find it there, and computes as if it were not.
        {"full_attention": {"rope_type": "yarn", "factor": 4.0, "truncate": False}},
    ],
)
def test_what_gemma_3_does_not_know_of_a_kind_is_refused(rope: dict[str, Any]) -> None:
    with pytest.raises(
        ModelUnsupportedError, match=r"rope_type|alpha|partial_rotary|chunked|truncate is False"
    ):
        ours({"rope_parameters": rope}, "Gemma3")


@pytest.mark.parametrize("position", [8191, 131071])
def test_far_positions_are_turned_as_far(position: int) -> None:
    """A frequency that differs in its last bit is a hundredth of a radian there."""
    raw = {
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 1, "mscale_all_dim": 1},
        "max_position_embeddings": 32768,
    }
    got, expected = tables(raw, position + 1)
    assert torch.equal(got[:, -1], expected[:, -1])


def test_deepseeks_equal_weights_leave_cos_and_sin_alone() -> None:
    yarn = {"rope_type": "yarn", "factor": 16.0, "mscale": 1, "mscale_all_dim": 1}
    got, _ = tables({"rope_scaling": yarn}, 2)
    assert got[0, 0].max() == 1.0
    without, _ = tables({"rope_scaling": {"rope_type": "yarn", "factor": 16.0}}, 2)
    assert without[0, 0].max() == pytest.approx(0.1 * math.log(16) + 1)


YARN_4 = {"rope_type": "yarn", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2.0] * 32}


@pytest.mark.parametrize(
    ("length", "scaling", "original", "context"),
    [
        (64, None, None, 64),
        (64, YARN_4, 64, 256),
        (64, YARN_4, None, 256),
        (256, YARN_4, 64, 256),
        (40960, YARN_4, 32768, 131072),  # Qwen3, which has room for an output beside its original
        (300, YARN_4, 64, 300),
        (64, {"rope_type": "yarn", "factor": 2.5}, 64, 160),
        (64, {"rope_type": "linear", "factor": 4.0}, None, 256),
        (131072, LLAMA3, 8192, 131072),  # Llama 3.1
        (131072, {**LLAMA3, "factor": 32.0}, 8192, 131072),  # Llama 3.2
        (8192, LLAMA3, 8192, 65536),
        (64, {"rope_type": "dynamic", "factor": 4.0}, None, 64),
        (131072, LONGROPE, 4096, 131072),
    ],
)
def test_the_context_follows_from_length_scaling_and_original_length(
    length: int, scaling: dict[str, Any] | None, original: int | None, context: int
) -> None:
    if scaling is not None and original is not None:
        scaling = {**scaling, "original_max_position_embeddings": original}
    raw = {"max_position_embeddings": length, "rope_scaling": scaling}
    assert ours(raw).spec.context == context


def test_longrope_goes_beyond_its_original_context_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its long factors turn every sequence then; transformers takes them for those that are longer."""
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 9.0]}
    reference = make_checkpoint(
        tmp_path, "phi3", hidden_size=48, original_max_position_embeddings=64, rope_parameters=rope
    )
    save_word_tokenizer(tmp_path)
    prompt = torch.randint(3, VOCAB, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        assert llm.max_model_len == 64
        assert_embeds(llm, reference, prompt[:60])
    caplog.clear()
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22, max_model_len=256) as llm:
        assert_embeds(llm, reference, prompt)
    assert "256, more than the original context of 64: LongRoPE's long factors" in caplog.text


def assert_embeds(llm: LLM, reference: Any, prompt: list[int]) -> None:
    """What `embed` gives is transformers' last hidden state."""
    (output,) = llm.embed([prompt])
    with torch.no_grad():
        hidden = reference.model(torch.tensor([prompt])).last_hidden_state[0, -1]
    expected = hidden / hidden.norm()
    torch.testing.assert_close(torch.tensor(output.embedding), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["longrope", "su", "yarn"])
def test_phi_3_calls_longrope_by_old_names_too(name: str) -> None:
    fields = {"original_max_position_embeddings": 4096, "max_position_embeddings": 131072}
    rope = {"type": name, "short_factor": [1.5] * 32, "long_factor": [2.5] * 32}
    spec = ours({**fields, "rope_scaling": rope}, "Phi3").spec
    assert spec.rotary[0].scaling is RopeScaling.LONGROPE
    assert spec.rotary[0].factor == 32.0
    assert (spec.default_context, spec.context) == (4096, 131072)
    with pytest.raises(ModelUnsupportedError, match="rope_type is 'linear'"):
        ours({"rope_scaling": {"type": "linear", "factor": 2.0}}, "Phi3")


def test_a_stretched_model_answers_beyond_its_original_length(tmp_path: Path) -> None:
    rope = {**YARN_4, "rope_theta": 10000.0, "original_max_position_embeddings": 64}
    reference = save_tiny_llama(tmp_path, max_position_embeddings=64, rope_parameters=rope)
    prompt = torch.randint(3, 250, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    with LLM(str(tmp_path), dtype="float32", kv_cache_memory_bytes=2**22) as llm:
        assert llm.max_model_len == 256
        assert_embeds(llm, reference, prompt)
    with LLM(str(tmp_path), max_model_len=256, kv_cache_memory_bytes=2**22) as llm:
        assert llm.max_model_len == 256
    with pytest.raises(InvalidConfigurationError, match="knows 256 positions"):
        LLM(str(tmp_path), max_model_len=257, kv_cache_memory_bytes=2**22)


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({**YARN_4, "alpha": 2.0}, r"rope_parameters\.alpha \(2\.0\)"),
        ({"rope_type": "default", "mrope_section": [8, 12, 12]}, "mrope_section"),
        ({"full_attention": YARN_4}, r"rope_parameters\.full_attention"),
        ({"rope_type": "su", "factor": 2.0}, "'su'"),
        ({**YARN_4, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({**YARN_4, "attn_factor": 0.8}, "attn_factor"),
    ],
)
def test_what_is_not_known_of_a_rotary_embedding_is_refused_by_name(
    rope: dict[str, Any], words: str
) -> None:
    for key in ("rope_parameters", "rope_scaling"):
        with pytest.raises(ModelUnsupportedError, match=words):
            ours({key: rope})


@pytest.mark.parametrize(
    ("rope", "words"),
    [
        ({"rope_type": "linear"}, r"rope_parameters\.factor is None"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor is None"),
        ({"rope_type": "linear", "factor": 0}, "factor is 0"),
        ({"rope_type": "default", "rope_theta": 0}, "rope_theta is 0; it must be above 0"),
        (
            {**LLAMA3, "low_freq_factor": 8},
            "high_freq_factor is 4; it must be above low_freq_factor",
        ),
        ({**YARN_4, "rope_theta": 1}, "rope_theta is 1; with YaRN it must be above 1"),
        ({**YARN_4, "beta_slow": -1}, "beta_slow is -1; it must be above 0"),
        ({**YARN_4, "mscale": "1"}, "mscale is '1'"),
        ({**LONGROPE, "short_factor": [1.0] * 31}, "list of 32 positive numbers"),
    ],
)
def test_a_wrong_field_of_a_rotary_embedding_is_named(rope: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelInvalidError, match=words):
        ours({"rope_parameters": rope})
