"""A token that any of a model's files declares is one id, and its id is the one that is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from octavo.errors import ModelInvalidError
from octavo.tokenizer import load_tokenizer
from tests.support.runtime.tokenizer_kinds import byte_level

TOKEN = "<|im_start|>"
FLAGS = {"__type": "AddedToken", "content": TOKEN, "special": True, "normalized": False}
SIZE = byte_level().get_vocab_size()


def write(folder: Path, **files: Any) -> Path:
    """A byte-level tokenizer, and these files with their `.json` beside it."""
    (folder / "tokenizer.json").write_text(byte_level().to_str())
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"additional_special_tokens": [TOKEN]}},
        {"tokenizer_config": {"additional_special_tokens": [FLAGS]}},
        {"tokenizer_config": {"extra_special_tokens": [TOKEN]}},
        {"tokenizer_config": {"extra_special_tokens": {"start_token": TOKEN}}},
        {"tokenizer_config": {"added_tokens_decoder": {str(SIZE): {"content": TOKEN}}}},
        {"tokenizer_config": {"model_specific_special_tokens": {"start_token": TOKEN}}},
        {"tokenizer_config": {"image_token": TOKEN}},
        {"tokenizer_config": {"cls_token": TOKEN}},
        {"tokenizer_config": {"mask_token": FLAGS}},
        {"special_tokens_map": {"additional_special_tokens": [TOKEN]}},
        {"special_tokens_map": {"extra_special_tokens": [TOKEN]}},
        {"special_tokens_map": {"sep_token": {"content": TOKEN, "lstrip": False}}},
        {"added_tokens": {TOKEN: SIZE}},
    ],
    ids=lambda files: " ".join((*files, *next(iter(files.values())))),
)
def test_a_token_declared_in_one_place_alone_is_one_id(tmp_path: Path, files: Any) -> None:
    write(tmp_path, **files)
    tokenizer = load_tokenizer(tmp_path)
    text = f"hello{TOKEN}hello"
    assert tokenizer.encode(text) == AutoTokenizer.from_pretrained(tmp_path).encode(text)
    assert tokenizer.encode(TOKEN) == [SIZE]
    assert TOKEN not in tokenizer.decode([SIZE]) or "added_tokens" in str(files)


def test_objects_in_the_list_of_an_old_map_are_read_though_transformers_cannot(
    tmp_path: Path,
) -> None:
    old = {"content": TOKEN, "lstrip": False, "rstrip": False, "single_word": False}
    write(tmp_path, special_tokens_map={"additional_special_tokens": [old]})
    with pytest.raises(TypeError):
        AutoTokenizer.from_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode(TOKEN) == [SIZE]


def test_what_tokenizer_json_adds_stays_where_the_table_leaves_it_out(tmp_path: Path) -> None:
    """transformers' classes that build their pipeline forget such a token."""
    write(
        tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {}}
    )
    backend = byte_level()
    backend.add_special_tokens([TOKEN])
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    assert load_tokenizer(tmp_path).encode(TOKEN) == [SIZE]


@pytest.mark.parametrize(("table", "shown"), [({}, ""), ({"added_tokens_decoder": {}}, TOKEN)])
def test_a_name_makes_a_token_of_tokenizer_json_special_unless_a_table_leaves_it_out(
    tmp_path: Path, table: Any, shown: str
) -> None:
    write(tmp_path, tokenizer_config={"unk_token": TOKEN, **table})
    backend = byte_level()
    backend.add_tokens([AddedToken(TOKEN, special=False)])
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.decode([SIZE], skip_special_tokens=True) == shown
    assert load_tokenizer(tmp_path).decode([SIZE]) == shown


@pytest.mark.parametrize("place", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
@pytest.mark.parametrize(("content", "number"), [(TOKEN, SIZE + 1), (TOKEN, 3), ("hello", SIZE)])
def test_an_id_that_the_vocabulary_does_not_give_is_refused(
    tmp_path: Path, place: str, content: str, number: int
) -> None:
    write(tmp_path)
    if place == "tokenizer.json":
        backend = byte_level()
        backend.add_tokens([AddedToken("ok")])
        state = json.loads(backend.to_str())
        state["added_tokens"] = [{**state["added_tokens"][0], "id": number, "content": content}]
        (tmp_path / place).write_text(json.dumps(state))
    elif place == "added_tokens.json":
        (tmp_path / place).write_text(json.dumps({content: number}))
    else:
        table = {"added_tokens_decoder": {str(number): {"content": content}}}
        (tmp_path / place).write_text(json.dumps(table))
    AutoTokenizer.from_pretrained(tmp_path)  # gives it another id, and says nothing
    with pytest.raises(ModelInvalidError) as caught:
        load_tokenizer(tmp_path)
    assert repr(content) in str(caught.value)
    assert f"is token {number}," in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token": 7}, "eos_token is 7"),
        ({"eos_token": {"lstrip": True}}, "eos_token is"),
        ({"eos_token": {"content": "x", "lstrip": "yes"}}, "eos_token is"),
        ({"extra_special_tokens": "<x>"}, "extra_special_tokens is '<x>'"),
        ({"extra_special_tokens": [7]}, "extra_special_tokens is 7"),
        ({"additional_special_tokens": 7}, "extra_special_tokens is 7"),
        ({"added_tokens_decoder": []}, "added_tokens_decoder is"),
        ({"added_tokens_decoder": {"one": {"content": "x"}}}, "added_tokens_decoder is 'one'"),
        ({"added_tokens_decoder": {"-1": {"content": "x"}}}, "added_tokens_decoder is '-1'"),
        ({"added_tokens_decoder": {"1": "x"}}, r"added_tokens_decoder\.1 is 'x'"),
        ({"model_specific_special_tokens": ["x"]}, "model_specific_special_tokens is"),
    ],
    ids=str,
)
def test_what_is_no_token_is_refused_by_name(tmp_path: Path, config: Any, message: str) -> None:
    write(tmp_path, tokenizer_config=config)
    with pytest.raises(ModelInvalidError, match=message):
        load_tokenizer(tmp_path)
