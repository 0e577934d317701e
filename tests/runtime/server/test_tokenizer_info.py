"""`/tokenizer_info` against transformers, whose `init_kwargs` vLLM tells there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octavo.model_source import resolve
from octavo.server.openai.tokenizer_info import tokenizer_info
from octavo.tokenizer import load_tokenizer

PLACES = {"vocab_file", "merges_file", "tokenizer_file", "name_or_path"}


def plain(value: Any) -> Any:
    """Tokens as their text, ids as JSON's keys are."""
    if isinstance(value, dict):
        return {str(name): plain(member) for name, member in value.items()}
    return getattr(value, "content", value)


def test_it_says_what_transformers_would(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = resolve("builtin://demo")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config |= {"model_max_length": 99, "name_or_path": "/home/somebody/model"}
    path.write_text(json.dumps(config), "utf-8")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    told = tokenizer_info(tmp_path, load_tokenizer(tmp_path))
    assert not PLACES & told.keys()
    assert told["chat_template"] == theirs.chat_template
    for name, value in theirs.init_kwargs.items():
        if name in told:
            assert told[name] == plain(value), name
    assert told.keys() >= {"model_max_length", *theirs.special_tokens_map, "tokenizer_class"}
    json.dumps(told)


def test_the_template_is_the_one_in_use(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(resolve("builtin://demo"), "{{ messages[0].content }}")
    told = tokenizer_info(resolve("builtin://demo"), tokenizer)
    assert told["chat_template"] == "{{ messages[0].content }}"
