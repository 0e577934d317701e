"""Tokenizer settings. `GET /tokenizer_info`, as vLLM has it: what tokenizer_config.json and the files beside
it say, for clients that count and cut texts as the server does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from octavo.json_files import read_json_object_if_any
from octavo.tokenizer import Tokenizer

# Where its publisher, or this server, has files is nobody's business.
_PLACES = frozenset({"name_or_path", "vocab_file", "merges_file", "tokenizer_file"})
_DEFAULT_CLASS = "PreTrainedTokenizerFast"


def tokenizer_info(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """The settings with `tokenizer_class`, the special tokens by name, tokens as their text, and the chat
    template that conversations are rendered with."""
    config = read_json_object_if_any(folder / "tokenizer_config.json")
    told = {name: _text(value) for name, value in config.items() if name not in _PLACES}
    told |= {"tokenizer_class": told.get("tokenizer_class") or _DEFAULT_CLASS}
    told |= tokenizer.special_tokens
    templates = tokenizer.chat_templates
    if templates is not None and templates.default is not None:
        told["chat_template"] = templates.default.source
    return told


def _text(value: Any) -> Any:
    """Added tokens stand in the file as objects."""
    if isinstance(value, dict):
        if isinstance(value.get("content"), str) and ("special" in value or "__type" in value):
            return value["content"]
        return {name: _text(member) for name, member in value.items()}
    return [_text(member) for member in value] if isinstance(value, list) else value
