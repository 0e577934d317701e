"""Configs of compressed-tensors: published ones are taken, what would be read wrongly is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.kernels.reference.weight_only import Code
from octavo.kernels.scaled_weight import RoundedInputs
from octavo.quantization import stored_format
from octavo.quantization.stored import StoredLayout
from tests.support.runtime.llm_compressor import ACTIVATIONS, config_of, group, weights


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_bits": 1}, "num_bits is 1; implemented is 2 to 8 with type int"),
        (
            {"num_bits": 4, "type": "float", "group_size": 16},
            "num_bits is 4; implemented is 8, or 4 with strategy group of 32, with type float",
        ),
        ({"type": "bool"}, "type is 'bool'"),
        ({"strategy": "tensor_group"}, "strategy is 'tensor_group'"),
        ({"strategy": "group", "group_size": None}, "strategy is 'group'"),
        ({"dynamic": True}, "dynamic is True"),
        ({"actorder": "rows"}, "actorder is 'rows'"),
        ({"num_bits": 8, "type": "float", "symmetric": False}, "symmetric is False"),
        ({"rotation": "hadamard"}, "what rotation"),
    ],
)
def test_weights_that_would_be_read_wrongly_are_refused(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=rf"config_groups\.group_0\.weights.*{words}"):
        stored_format(config_of(group(weights=weights() | fields)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "marlin-24"}, "format is 'marlin-24'"),
        ({"format": "nvfp4-pack-quantized"}, "format is 'nvfp4-pack-quantized'"),
        ({"format": "dense"}, "format is 'dense'"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity_config.format"),
        ({"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
        ({"moe_sparsity_config": {"keep": 4}}, "moe_sparsity_config"),
        ({"rotation": "hadamard"}, "what rotation"),
    ],
)
def test_checkpoints_that_would_be_read_wrongly_are_refused(
    fields: dict[str, object], words: str
) -> None:
    with pytest.raises(ModelUnsupportedError, match=re.escape(words)):
        stored_format(config_of(group(weights=weights()), **fields))
    without = dict.fromkeys(fields)
    stored_format(config_of(group(weights=weights())) | without)


def test_nvfp4_is_refused_by_its_name_and_not_by_its_bits() -> None:
    of = weights(type="float", strategy="tensor_group", group_size=16)
    with pytest.raises(ModelUnsupportedError, match="format is 'nvfp4-pack-quantized'"):
        stored_format(config_of(group(weights=of), format="nvfp4-pack-quantized"))


def test_a_groups_format_is_looked_at_too() -> None:
    of = group(weights=weights(), format="marlin-24")
    with pytest.raises(ModelUnsupportedError, match=r"group_0\.format is 'marlin-24'"):
        stored_format(config_of(of, format="mixed-precision"))


def test_expressions_that_disagree_about_a_module_are_refused() -> None:
    config = config_of(
        group(r"re:.*mlp.*", weights=weights(4)), group(r"re:.*down_proj", weights=weights(8))
    )
    found = stored_format(config)
    assert found.layout("model.layers.0.mlp.up_proj", 64) == StoredLayout(Code.INT4, 32)
    with pytest.raises(ModelUnsupportedError, match=r"two groups .* match model\.layers\.0\.mlp"):
        found.layout("model.layers.0.mlp.down_proj", 64)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (config_of(group("re:*q_proj", weights=weights())), r"re:\*q_proj is no regular"),
        (config_of(group(weights=weights()), ignore=["re:("]), r"ignore: re:\( is no regular"),
        (config_of({"targets": "Linear"}), r"group_0"),
        (config_of() | {"config_groups": {"W4A16": ["Linear"]}}, "must be an object"),
        (config_of(group(weights=weights(group_size=0))), "group_size is 0"),
        (config_of(group(weights=weights(strategy="block"))), "block_structure is None"),
    ],
)
def test_damaged_fields_are_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelInvalidError, match=words):
        stored_format(config)


PUBLISHED = [
    # RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16
    (
        config_of(group(weights=weights(group_size=128, actorder="weight"))),
        StoredLayout(Code.INT4, 128),
    ),
    # RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8
    (
        config_of(
            group(
                weights=weights(8, type="float", strategy="tensor", group_size=None),
                input_activations=ACTIVATIONS | {"strategy": "tensor", "dynamic": False},
            ),
            format="float-quantized",
        ),
        StoredLayout(Code.FLOAT8, None, inputs=RoundedInputs(is_static=True)),
    ),
    # RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8
    (
        config_of(
            group(
                weights=weights(8, strategy="channel", group_size=None),
                input_activations=ACTIVATIONS | {"type": "int"},
            ),
            format="int-quantized",
            sparsity_config={},
        ),
        StoredLayout(Code.INT8, None),
    ),
    # neuralmagic/Llama-2-7b-chat-quantized.w4a16, whose act-order is of groups
    (
        config_of(group(weights=weights(group_size=128, actorder="group", symmetric=False))),
        StoredLayout(Code.INT4, 128, has_zeros=True, is_reordered=True),
    ),
]


@pytest.mark.parametrize(("raw", "expected"), PUBLISHED)
def test_published_configs_are_taken(raw: dict[str, object], expected: StoredLayout) -> None:
    found = stored_format(raw)
    assert found.method == "compressed-tensors"
    assert found.layout("model.layers.0.mlp.up_proj", 256) == expected
    assert found.layout("lm_head", 256) is None
