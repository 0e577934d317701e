"""What of a published repository is fetched: enough to load it as transformers does, and no more."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from octavo.errors import ModelInvalidError
from octavo.loading.model_files import needed_files

SMALL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
SHARDS = tuple(f"model-{n:05d}-of-00003.safetensors" for n in (1, 2, 3))
INDEX = "model.safetensors.index.json"
PRESENT = {"README.md", "LICENSE", ".gitattributes", "figures/one.png"}


def needed(
    paths: Sequence[str],
    *,
    index: Sequence[str] = SHARDS,
    modules: object = (),
    config: object = None,
) -> set[str]:
    contents = {
        INDEX: {"weight_map": {f"tensor.{n}": name for n, name in enumerate(index)}},
        "modules.json": modules,
        "config.json": config or {"model_type": "llama"},
    }
    found = needed_files(
        [*paths, *PRESENT], lambda name: json.dumps(contents[name]).encode(), "hf://org/name"
    )
    assert found == sorted(set(found))
    return set(found)


@pytest.mark.parametrize(
    "config",
    [
        {"speculators_config": {}, "architectures": ["Eagle3Speculator"]},
        {"architectures": ["LlamaForCausalLMEagle3"]},
    ],
)
def test_a_head_that_guesses_for_a_model_has_no_tokenizer(config: object) -> None:
    paths = ["config.json", "model.safetensors"]
    assert needed([*paths, "eagle3.py"], config=config) == {*paths}
    with pytest.raises(ModelInvalidError, match=r"holds no tokenizer\.json"):
        needed(paths)


@pytest.mark.parametrize(
    "strays",
    [
        # Of Mistral-7B-v0.3, Llama-3.1-8B, gpt2, bge-small and a training run.
        ["consolidated.safetensors", "params.json", "tokenizer.model", "tokenizer.model.v3"],
        ["original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"],
        ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json", "tf_model.h5"],
        ["onnx/model.onnx", "onnx/model.safetensors", "onnx/config.json", "openvino/model.xml"],
        ["checkpoint-500/model.safetensors", "checkpoint-500/optimizer.pt", "trainer_state.json"],
        ["model.fp16.safetensors", "old-model.safetensors", "flax_model.msgpack", "vocab.json"],
        ["modeling_x.py", "tokenization_x.py", "adapter_model.safetensors", "model-Q4_K_M.gguf"],
    ],
)
def test_the_index_names_the_weights_and_nothing_else_is_fetched(strays: list[str]) -> None:
    assert needed([*SMALL, INDEX, *SHARDS, *strays]) == {*SMALL, INDEX, *SHARDS}
    whole = "model.safetensors"
    assert needed([*SMALL, whole, *strays]) == {*SMALL, whole}


def test_tokens_templates_and_quantisation_come_along() -> None:
    more = {
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "processor_config.json",
        "additional_chat_templates/tool_use.jinja",
        "quantize_config.json",
    }
    stray = "additional_chat_templates/deep/er.jinja"
    assert needed([*SMALL, "model.safetensors", *more, stray]) == {
        *SMALL,
        "model.safetensors",
        *more,
    }


def test_tokenizers_of_other_releases_come_along() -> None:
    files = {"tokenizer.json", "tokenizer.4.0.0.json", "tokenizer.5.2.json"}
    found = needed([*SMALL, "model.safetensors", *files, "tokenizer.old.json"])
    assert found == {*SMALL, "model.safetensors", *files}


def test_an_embedders_steps_are_fetched_as_modules_json_names_them() -> None:
    steps = [{"path": p} for p in ("", ".", "./1_Pooling", "2_Dense/", "../secrets")]
    own = {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
    wanted = {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"}
    strays = ["2_Dense/pytorch_model.bin", "3_Other/config.json", "../secrets/config.json"]
    found = needed([*SMALL, "model.safetensors", *own, *wanted, *strays], modules=steps)
    assert found == {*SMALL, "model.safetensors", *own, *wanted}
    assert needed([*SMALL, "model.safetensors", "modules.json"], modules={"no": "list"})


def test_what_could_not_be_loaded_is_not_fetched() -> None:
    with pytest.raises(ModelInvalidError, match=r"hf://org/name holds only pickle weights"):
        needed([*SMALL, "pytorch_model.bin"])
    missing = r"model-00002-of-00003\.safetensors.*missing.* Use another revision\."
    with pytest.raises(ModelInvalidError, match=missing):
        needed([*SMALL, INDEX, SHARDS[0], SHARDS[2]])
    for text in (b'\xef\xbb\xbf{"model_type": "llama"}', b"[]", b"\xff"):  # no load reads these
        with pytest.raises(ModelInvalidError, match=r"hf://org/name/config\.json (cannot|must)"):
            needed_files(
                [*SMALL, "model.safetensors"], {"config.json": text}.__getitem__, "hf://org/name"
            )
    with pytest.raises(
        ModelInvalidError, match=r"no tokenizer\.json, but tokenizer\.model and vocab"
    ):
        needed(["config.json", "model.safetensors", "tokenizer.model", "vocab.json"])
