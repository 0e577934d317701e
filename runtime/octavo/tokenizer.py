"""Tokenizer. Loads a model's tokenizer and chat template without importing torch or transformers.

The API process needs nothing else of a model, and `transformers` alone would add more than a second to
its start. `tokenizer.json` is the whole tokenizer; the files around it only name the special tokens and
carry the chat template.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from octavo.chat import ChatTemplates, load_chat_templates, render_chat
from octavo.errors import InvalidParameterError, ModelInvalidError

_SPECIAL_TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """A model's tokenizer with its chat template.

    Attributes:
        backend: The Rust tokenizer; thread-safe.
        special_tokens: Texts by name, such as `eos_token`.
        chat_templates: None when the model has none (a base model).
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str],
        chat_templates: ChatTemplates | None,
    ) -> None:
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self.chat_templates = chat_templates

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; the model's own table may be padded beyond it."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @functools.cached_property
    def id_limit(self) -> int:
        """One more than the highest id: ids may have gaps. Looks through the whole vocabulary once."""
        return 1 + max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1)

    @property
    def eos_token_id(self) -> int | None:
        eos = self.special_tokens.get("eos_token")
        return None if eos is None else self.backend.token_to_id(eos)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        # The batch form gives Python's lock back while it works: a long prompt in a thread does not
        # hold up the event loop.
        return self.backend.encode_batch([text], add_special_tokens=add_special_tokens)[0].ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self.backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of a conversation. The template writes the special tokens, so none are added.

        Raises: as `render_chat`.
        """
        text = self.render_chat(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=template_kwargs,
        )
        return self.encode(text, add_special_tokens=False)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation as clients write it, special tokens included; see `octavo.chat`.

        Raises `InvalidParameterError` when the model has no chat template, or as `render_chat`.
        """
        if self.chat_templates is None:
            raise InvalidParameterError(
                "messages",
                "The model has no chat template: use /v1/completions, or start the server with "
                "--chat-template FILE.",
            )
        return render_chat(
            self.chat_templates,
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            template_kwargs=template_kwargs,
        )


def load_tokenizer(folder: Path, chat_template: str | None = None) -> Tokenizer:
    """The tokenizer of the model in `folder`.

    Args:
        folder: Holds tokenizer.json and perhaps tokenizer_config.json and chat_template.jinja.
        chat_template: Overrides the model's: a path to a Jinja file, or the template itself.

    Raises `ModelInvalidError` when a file is missing or damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelInvalidError(
            f"{folder} holds no tokenizer.json. Convert the tokenizer once with "
            "transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)."
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalidError(f"{path} is damaged: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    config = _read_json(folder / "tokenizer_config.json")
    _add_missing_tokens(backend, config)
    special_tokens = _special_tokens(config, _read_json(folder / "special_tokens_map.json"))
    templates = load_chat_templates(folder, config, chat_template, special_tokens)
    return Tokenizer(backend, special_tokens, templates)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelInvalidError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelInvalidError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    return value


def _add_missing_tokens(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Older checkpoints declare some special tokens in tokenizer_config.json alone."""
    declared = config.get("added_tokens_decoder")
    if not isinstance(declared, dict):
        return
    for _, entry in sorted(declared.items(), key=lambda item: int(item[0])):
        if backend.token_to_id(entry["content"]) is not None:
            continue
        flags = {k: bool(entry.get(k, False)) for k in ("lstrip", "rstrip", "single_word")}
        token = tokenizers.AddedToken(
            entry["content"], normalized=bool(entry.get("normalized", True)), **flags
        )
        if entry.get("special", False):
            backend.add_special_tokens([token])
        else:
            backend.add_tokens([token])


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in sources:
        for name in _SPECIAL_TOKEN_NAMES:
            value = source.get(name)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                found.setdefault(name, value)
    return found
