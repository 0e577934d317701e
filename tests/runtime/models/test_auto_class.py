"""Which class of transformers a folder is loaded by, and that it heeds what the layers are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from octavo.config import ModelImplementation
from octavo.errors import ModelInvalidError, ModelUnsupportedError
from octavo.models.from_transformers.auto_class import auto_class
from octavo.models.registry import read_model_config
from tests.support.runtime.checkpoints import VOCAB
from tests.support.runtime.generic_models import make_generic_checkpoint
from tests.support.runtime.served_answers import assert_as_transformers, serve
from tests.support.runtime.stepping import make_executor

AUTO, TRANSFORMERS = ModelImplementation.AUTO, ModelImplementation.TRANSFORMERS
KINDS = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]


def test_a_mistral_of_two_kinds_of_layers_is_served_as_auto_classes_load_it(
    tmp_path: Path,
) -> None:
    torch.set_num_threads(1)
    make_generic_checkpoint(tmp_path, "mistral", layer_types=KINDS, sliding_window=8)
    assert read_raw(tmp_path)["architectures"] == ["MistralForCausalLM"]
    expected = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    assert type(expected) is transformers.MinistralForCausalLM
    generic = serve(tmp_path, make_executor(tmp_path, model_impl=TRANSFORMERS), VOCAB)
    assert_as_transformers(generic, expected)
    windows = (8, None, None, 8)
    for implementation in (AUTO, TRANSFORMERS):
        assert read_model_config(tmp_path, implementation).spec.windows == windows


def test_a_class_that_does_not_heed_kinds_of_layers_is_refused(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "starcoder2")
    change(tmp_path, layer_types=["sliding_attention"] * 4)
    read_model_config(tmp_path, AUTO)
    change(tmp_path, layer_types=KINDS)
    with pytest.raises(
        ModelUnsupportedError, match=r"layer 1, whose layer_types is full_attention, sees 23 tokens"
    ):
        read_model_config(tmp_path, AUTO)
    change(tmp_path, layer_types=["sliding_attention"] * 3 + ["chunked_attention"])
    with pytest.raises(
        ModelUnsupportedError, match=r"layer 3, whose layer_types is chunked_attention, sees 23"
    ):
        read_model_config(tmp_path, AUTO)


def test_a_text_class_gets_the_config_of_the_text(tmp_path: Path) -> None:
    whole = transformers.Llama4Config(text_config={"num_hidden_layers": 2})
    whole.architectures = ["Llama4ForCausalLM"]
    whole.save_pretrained(tmp_path)
    model_class, given = auto_class(tmp_path, read_raw(tmp_path))
    assert model_class is transformers.Llama4ForCausalLM
    assert type(given) is transformers.Llama4TextConfig
    assert given.num_hidden_layers == 2


def test_another_config_in_the_place_of_config_json_is_refused(tmp_path: Path) -> None:
    make_generic_checkpoint(tmp_path, "olmo2")
    change(tmp_path, configuration_files=["config.4.0.0.json"])
    (tmp_path / "config.4.0.0.json").write_text(json.dumps(read_raw(tmp_path)))
    with pytest.raises(ModelUnsupportedError, match=r"^config\.json: configuration_files"):
        read_model_config(tmp_path, AUTO)
    change(tmp_path, architectures=None)
    for implementation in (AUTO, TRANSFORMERS):
        with pytest.raises(ModelInvalidError, match="architectures is None"):
            read_model_config(tmp_path, implementation)


def test_a_class_that_is_no_causal_one_is_told_to_own_codes_users(tmp_path: Path) -> None:
    whole = transformers.LlavaConfig(text_config={"model_type": "llama", "num_hidden_layers": 2})
    whole.architectures = ["LlavaForConditionalGeneration"]
    whole.save_pretrained(tmp_path)
    with pytest.raises(ModelUnsupportedError, match=r"^Leave --model-impl out: .* runs Llava"):
        read_model_config(tmp_path, TRANSFORMERS)
    change(tmp_path, text_config={"model_type": "olmo2"})
    with pytest.raises(ModelUnsupportedError, match=r"and with model_type 'llava'") as caught:
        read_model_config(tmp_path, TRANSFORMERS)
    assert "--model-impl" not in str(caught.value)


def read_raw(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def change(folder: Path, **fields: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**read_raw(folder), **fields}))
