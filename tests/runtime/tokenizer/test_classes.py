"""Which class of transformers reads a folder, and what is done where that class is not built here."""

from __future__ import annotations

import base64
import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as DECODERS,
)
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as ENCODED
from transformers.models.auto.tokenization_auto import (
    MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
    TOKENIZER_MAPPING_NAMES,
)

from octavo.errors import ModelUnsupportedError
from octavo.models.registry import ENCODERS, FAMILIES
from octavo.tokenizer import load_tokenizer
from octavo.tokenizer.built_classes import CLASSES
from octavo.tokenizer.classes import NOT_BUILT_HERE, choose_class
from octavo.tokenizer.model_types import NAMED_WRONG, OF_MODEL_TYPES
from tests.support.runtime.tokenizer_kinds import KINDS

TEXTS = ("hello world", "  hello 12345.", "Größe\nhello", "<s>hello</s> hello")


def write(folder: Path, kind: str, config: Any, model_config: Any) -> Path:
    (folder / "tokenizer.json").write_text(KINDS[kind]().to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps(model_config))
    return folder


def test_every_class_of_transformers_is_known() -> None:
    """A new release may bring one more: build it, or name it among those that are refused."""
    names = {
        name.removesuffix("Fast")
        for name in (*dir(transformers), *filter(None, TOKENIZER_MAPPING_NAMES.values()))
        if name.removesuffix("Fast").endswith("Tokenizer")
        or name in ("SentencePieceBackend", "MistralCommonBackend")
    }
    assert names - {"PreTrainedTokenizer", *CLASSES} == NOT_BUILT_HERE


def test_the_classes_of_model_types_are_those_of_transformers() -> None:
    served = {*FAMILIES, *ENCODERS}
    families = {name for name, one in (*DECODERS.items(), *ENCODED.items()) if one in served}
    registered = {name: TOKENIZER_MAPPING_NAMES.get(name) for name in {*DECODERS, *families}}
    classes = set(OF_MODEL_TYPES.values())
    assert {name: one for name, one in registered.items() if one in classes} == OF_MODEL_TYPES
    assert DECODERS.keys() & MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS == NAMED_WRONG
    assert families >= {"llama", "qwen3", "bert", "xlm-roberta"}
    named = {name for name in families if TOKENIZER_MAPPING_NAMES.get(name) is not None}
    assert named <= OF_MODEL_TYPES.keys()


@pytest.mark.parametrize("name", ["T5Tokenizer", "FNetTokenizerFast", "Qwen3_5Tokenizer"])
def test_a_class_that_is_not_built_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelUnsupportedError, match=name.removesuffix("Fast")) as caught:
        choose_class({"tokenizer_class": name}, {"model_type": "llama"})
    assert "PreTrainedTokenizerFast" in str(caught.value)


def test_a_checkpoints_own_code_is_refused_unless_transformers_has_a_class_too(
    tmp_path: Path,
) -> None:
    code: dict[str, Any] = {"auto_map": {"AutoTokenizer": ["mine.MyTokenizer", None]}}
    for config in (code, code | {"tokenizer_class": "MyTokenizer"}):
        write(tmp_path, "llama", config, {"model_type": "llama"})
        with pytest.raises(ModelUnsupportedError, match="auto_map"):
            load_tokenizer(tmp_path)
    for config, model_type in [
        (code | {"tokenizer_class": "LlamaTokenizer"}, "llama"),
        (code, "mistral"),
        (code | {"tokenizer_class": "LlamaTokenizer"}, "mistral"),
        ({"auto_map": {"AutoProcessor": "mine.MyProcessor"}}, "llama"),
    ]:
        write(tmp_path, "llama of old", config, {"model_type": model_type})
        theirs = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
        ours = load_tokenizer(tmp_path)
        for text in TEXTS:
            assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize(
    ("kind", "config", "model_type"),
    [
        ("digits apart", {"tokenizer_class": "GPT2Tokenizer"}, "llama"),
        ("byte level", {"tokenizer_class": "PreTrainedTokenizerFast"}, "qwen2"),
        ("byte level", {}, "gemma2"),
        ("unigram", {"tokenizer_class": "LlamaTokenizer"}, "llama"),
    ],
)
def test_a_tokenizer_of_another_kind_than_its_class_stands_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, config: Any, model_type: str
) -> None:
    """SmolLM is one: `GPT2Tokenizer` would write its numbers in tokens that it was never shown."""
    write(tmp_path, kind, config, {"model_type": model_type})
    with caplog.at_level(logging.WARNING):
        ours = load_tokenizer(tmp_path)
    assert "tokenizer.json is used as it stands" in caplog.text
    theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("kind", ["byte level", "llama"])
@pytest.mark.parametrize("place", ["tokenizer_config.json", "config.json"])
def test_a_byte_level_tokenizer_is_none_of_llama_2s_whatever_its_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, place: str
) -> None:
    """Llama 3 and DeepSeek say so. transformers goes by the name of any part, and says nothing."""
    named = {"tokenizer_class": "LlamaTokenizerFast"}
    configs = [named, {}] if place == "tokenizer_config.json" else [{}, named]
    write(tmp_path, kind, configs[0], {"model_type": "llama", **configs[1]})
    backend = KINDS[kind]()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    with caplog.at_level(logging.WARNING):
        ours = load_tokenizer(tmp_path)
    assert not caplog.records
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert ours.special_tokens == theirs.special_tokens_map == {}
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)


def test_digits_stay_apart(tmp_path: Path) -> None:
    write(tmp_path, "digits apart", {"tokenizer_class": "GPT2Tokenizer"}, {"model_type": "llama"})
    assert len(load_tokenizer(tmp_path).encode("123")) == 3
    assert len(AutoTokenizer.from_pretrained(tmp_path).encode("123")) == 1


@pytest.mark.parametrize("legacy", [True, False, None])
@pytest.mark.parametrize("add_prefix_space", [True, False, None])
@pytest.mark.parametrize("kind", ["llama", "llama, always", "llama, never", "llama of old"])
def test_llamas_spaces_follow_its_fields(
    tmp_path: Path, kind: str, legacy: bool | None, add_prefix_space: bool | None
) -> None:
    config = {"legacy": legacy, "add_prefix_space": add_prefix_space}
    config = {name: value for name, value in config.items() if value is not None}
    write(
        tmp_path, kind, {"tokenizer_class": "LlamaTokenizerFast", **config}, {"model_type": "llama"}
    )
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
        ids = ours.encode(text)
        assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids)


START = {"__type": "AddedToken", "content": "<|im_start|>"}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        # Its brackets get their ids after all tokens have one.
        ("bert", {"tokenizer_class": "BertTokenizer", "sep_token": "<|im_end|>"}),
        ("bert", {"tokenizer_class": "BertTokenizerFast", "unk_token": "[SEP]"}),
        ("bert", {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
        ("bert", {"tokenizer_class": "BertTokenizer", "strip_accents": False}),
        ("bert", {"tokenizer_class": "DistilBertTokenizerFast"}),
        ("bert", {"tokenizer_class": "MPNetTokenizer", "mask_token": "<|im_start|>"}),
        ("bert", {"tokenizer_class": "MPNetTokenizerFast", "unk_token": "[SEP]"}),
        ("byte level", {"tokenizer_class": "RobertaTokenizer", "cls_token": "<|im_start|>"}),
        ("xlm-roberta", {"tokenizer_class": "XLMRobertaTokenizerFast", "eos_token": "[SEP]"}),
        ("xlm-roberta", {"tokenizer_class": "CamembertTokenizer", "mask_token": "<|im_start|>"}),
        # Begins with BOS whatever tokenizer.json says, and has names of its own.
        ("llama of old", {"tokenizer_class": "CodeLlamaTokenizer"}),
        ("llama", {"tokenizer_class": "CodeLlamaTokenizer", "bos_token": None}),
        ("llama", {"tokenizer_class": "CodeLlamaTokenizer", "prefix_token": "<|im_start|>"}),
        ("gpt neox", {"tokenizer_class": "GPTNeoXTokenizerFast"}),
        ("gpt neox", {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": True}),
        ("byte level", {"tokenizer_class": "CodeGenTokenizer"}),
        ("cohere", {"tokenizer_class": "CohereTokenizerFast", "eos_token": START}),
        # Takes all flags from its special tokens.
        ("qwen2", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": START | {"rstrip": True}}),
        ("qwen2", {"tokenizer_class": "Qwen2Tokenizer", "image_token": START | {"lstrip": True}}),
        ("qwen2", {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": True}),
        ("byte level", {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}),
        ("byte level with a prefix", {"tokenizer_class": "GPT2TokenizerFast"}),
        ("gemma", {"tokenizer_class": "GemmaTokenizer", "mask_token": None}),
    ],
    ids=str,
)
def test_what_a_class_adds(tmp_path: Path, kind: str, config: Any) -> None:
    write(tmp_path, kind, config, {"model_type": "llama"})
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert ours.special_tokens == theirs.special_tokens_map
    for text in (*TEXTS, "Größe <|im_start|> hello <|im_end|> ?"):
        ids = ours.encode(text)
        assert ids == theirs.encode(text)
        assert ours.decode(ids, skip_special_tokens=False) == theirs.decode(ids)
        pair = theirs(text, "hello", return_token_type_ids=True)
        ids, begin = ours.encode_pair(text, "hello")
        assert ids == pair["input_ids"]
        if "token_type_ids" in theirs.model_input_names:
            assert begin == pair["token_type_ids"].index(1)
        else:
            assert begin is None


@pytest.mark.parametrize("name", ["BertTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("inputs", [None, ["input_ids"], ["input_ids", "token_type_ids"]])
def test_a_model_is_told_segments_where_its_class_or_its_files_say_so(
    tmp_path: Path, name: str, inputs: list[str] | None
) -> None:
    config: dict[str, Any] = {"tokenizer_class": name, "sep_token": "[SEP]"}
    if inputs is not None:
        config["model_input_names"] = inputs
    write(tmp_path, "bert", config, {"model_type": "llama"})
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    _, begin = load_tokenizer(tmp_path).encode_pair("hello", "world")
    assert (begin is not None) == ("token_type_ids" in theirs("hello", "world"))


# The smallest table of SentencePiece's: a trie of units that match nothing, and no replacement.
TABLE = {
    "type": "Precompiled",
    "precompiled_charsmap": base64.b64encode(struct.pack("<I1024x", 1024)).decode(),
}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


@pytest.mark.parametrize(
    "normalizer",
    [TABLE, {"type": "Sequence", "normalizers": [TABLE, SPACES]}],
    ids=["alone", "with spaces joined"],
)
def test_a_table_of_sentencepieces_stays(
    normalizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """XLM-R's normalizer is data of its own, which no class can make."""
    write(
        tmp_path, "xlm-roberta", {"tokenizer_class": "XLMRobertaTokenizer"}, {"model_type": "llama"}
    )
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["normalizer"] = normalizer
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert "used as it stands" not in caplog.text
    assert json.loads(ours.backend.to_str())["normalizer"] == normalizer
    for text in (*TEXTS, " hello  <mask>  world "):
        assert ours.encode(text) == theirs.encode(text)
        assert ours.encode_pair(text, "world")[0] == theirs(text, "world")["input_ids"]
