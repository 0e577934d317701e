"""Tokenizer of one model: text to token ids and back, and conversations to prompts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from octavo.chat import ChatTemplates, TokenView, find_end_of_turn, render_chat
from octavo.errors import InvalidParameterError
from octavo.tokenizer.truncation import Truncation


class Tokenizer:
    """A model's tokenizer with its chat template.

    Attributes:
        backend: The Rust tokenizer; thread-safe.
        special_tokens: Texts by name, such as `eos_token`.
        chat_templates: None when the model has none (a base model).
        tells_segments: The model is told which of a pair's two texts a token belongs to.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: Mapping[str, str],
        chat_templates: ChatTemplates | None,
        *,
        tells_segments: bool = True,
    ) -> None:
        self.backend = backend
        self.special_tokens = dict(special_tokens)
        self.chat_templates = chat_templates
        self.tells_segments = tells_segments

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

    @functools.cached_property
    def end_token_ids(self) -> tuple[int, ...]:
        """Its end of sequence, and what its chat templates write behind an answer."""
        added = self.backend.get_added_tokens_decoder()
        view = TokenView(
            encode=lambda text: self.encode(text, add_special_tokens=False),
            decode=lambda token_id: self.decode([token_id], skip_special_tokens=False),
            special=frozenset(number for number, token in added.items() if token.special),
        )
        found = [find_end_of_turn(template, view) for template in self.chat_templates or ()]
        return tuple(dict.fromkeys(one for one in (self.eos_token_id, *found) if one is not None))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Raises `InvalidParameterError` for half a surrogate pair, which is no character."""
        # The batch form gives Python's lock back while it works: a long prompt in a thread does not
        # hold up the event loop. The fast one keeps no offsets, which took a fifth of the time.
        try:
            (found,) = self.backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        except TypeError:
            raise InvalidParameterError(
                "prompt",
                "The prompt holds one half of a surrogate pair, which is no character. Leave it out.",
            ) from None
        ids: list[int] = found.ids
        return ids

    def encode_pair(
        self, first: str, second: str, truncation: Truncation | None = None
    ) -> tuple[list[int], int | None]:
        """Token ids of two texts as one, and where the second segment begins; None where the model
        is not told."""
        if truncation is None:
            (pair,) = self.backend.encode_batch([(first, second)])
        else:
            pair = truncation.encode_pair(self.backend, first, second)
        has_second = self.tells_segments and 1 in pair.type_ids
        return pair.ids, pair.type_ids.index(1) if has_second else None

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return self.backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of a conversation. The template writes the special tokens, so none are added.

        Raises: as `render_chat`.
        """
        text = self.render_chat(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )
        return self.encode(text, add_special_tokens=False)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation as clients write it, special tokens included; see `octavo.chat`.

        Raises `InvalidParameterError` when the model has no chat template, or as `render_chat`.
        """
        if self.chat_templates is None:
            raise InvalidParameterError(
                "messages",
                "The model has no chat template: give one as chat_template, or a prompt without messages.",
            )
        return render_chat(
            self.chat_templates,
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )
