"""Declared tokens: what a model's files say of its tokens beside the vocabulary, from all the places where
they say it.

A special token may stand in tokenizer.json, in tokenizer_config.json (as a name's value, in a list, in a
table by id), in special_tokens_map.json or in added_tokens.json. One that is read from none of them is cut
into pieces. Which place wins, and in which order tokens get the next free ids, is decided as transformers
decides it (`PreTrainedTokenizerBase._from_pretrained`, `TokenizersBackend.__init__`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import AddedToken

from octavo.errors import ModelInvalidError

Token = str | AddedToken
"""A text takes the flags of a special token; an `AddedToken` has its own."""

_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_TABLE = "added_tokens_decoder"
_EXTRA, _OLD_EXTRA = "extra_special_tokens", "additional_special_tokens"
_CUSTOM = "model_specific_special_tokens"


@dataclass(frozen=True, slots=True)
class DeclaredTokens:
    """Args:
    by_id: Those whose files name their id.
    left_out: Ids of those that tokenizer.json alone has, though there is a table by id.
    named: Special tokens by name, such as `eos_token`; first the usual names, then a model's own.
    extra: Special tokens without a name.
    """

    by_id: Mapping[int, AddedToken]
    named: Mapping[str, Token]
    extra: tuple[Token, ...]
    left_out: frozenset[int] = frozenset()

    def add_to(self, backend: tokenizers.Tokenizer) -> None:
        """Adds those that are missing, and gives the others the flags that they are declared with.

        Raises `ModelInvalidError` when a token cannot have the id that its file names.
        """
        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        # Of those that the table leaves out, the ones that are there stay as they are, named or not.
        pending: list[Token] = [
            token
            for number, token in sorted(self.by_id.items())
            if number not in self.left_out or token.content not in known
        ]
        known |= {str(token) for token in pending}
        for token in (*self.named.values(), *self.extra):
            if str(token) not in known and token not in pending:
                pending.append(token)
        names = {str(token) for token in self.named.values()}
        backend.add_tokens([_as_added(token, str(token) in names) for token in pending])
        check_ids(backend, ((str(token), number) for number, token in self.by_id.items()))


def read_declared_tokens(
    config: Mapping[str, Any],
    special_tokens_map: Mapping[str, Any],
    added_tokens: Mapping[str, Any],
    own: Mapping[int, AddedToken],
    defaults: Mapping[str, Any],
) -> DeclaredTokens:
    """Args:
        config: tokenizer_config.json.
        special_tokens_map: special_tokens_map.json; like the next it is read where `config` has no table
            of its tokens by id.
        added_tokens: added_tokens.json.
        own: The added tokens of tokenizer.json by id.
        defaults: Named tokens, or extra ones, that hold where no file mentions the name.

    Raises:
        ModelInvalidError: A value is no token, or no id.
    """
    fields = dict(config)
    if _OLD_EXTRA in fields and not fields.get(_EXTRA):
        fields[_EXTRA] = fields.pop(_OLD_EXTRA)
    custom = _taken(fields, str)
    custom |= _taken_extra(fields)
    table = fields.get(_TABLE)
    left_out: frozenset[int] = frozenset()
    if table is not None:
        told = {
            _id(number, _TABLE): _token(token, f"{_TABLE}.{number}")
            for number, token in _object(table, _TABLE).items()
        }
        by_id = dict(own) | told
        left_out = frozenset(own.keys() - told.keys())
    else:
        _merge_map(fields, special_tokens_map)
        custom |= _taken_extra(fields)
        by_id = _numbered(fields, added_tokens) | dict(own)
    if _OLD_EXTRA in fields and _EXTRA not in fields:
        fields[_EXTRA] = fields.pop(_OLD_EXTRA)
    for name, value in defaults.items():
        fields.setdefault(name, value)
    custom = _taken(fields, (str, dict, AddedToken)) | (
        custom or _object(fields.get(_CUSTOM) or {}, _CUSTOM)
    )
    declared = {token.content: token for token in by_id.values()}
    named = {
        name: declared.get(str(token := _text_or_token(fields[name], name)), token)
        for name in _NAMES
        if fields.get(name) is not None
    }
    named |= {name: _text_or_token(value, name) for name, value in custom.items()}
    extra = tuple(_extra_tokens(fields.get(_EXTRA)))
    return DeclaredTokens(by_id, named, extra, left_out)


def check_ids(backend: tokenizers.Tokenizer, declared: Iterable[tuple[str, int]]) -> None:
    """Raises `ModelInvalidError` unless these tokens have the ids that go with them: the model's table has a
    row for each id, and a token that moved would read another one's."""
    for content, number in declared:
        found = backend.token_to_id(content)
        if found != number:
            raise ModelInvalidError(
                f"The tokenizer's files say that {content!r} is token {number}, but the vocabulary makes "
                f"it {found}. Mend added_tokens in tokenizer.json, {_TABLE} in tokenizer_config.json, or "
                "added_tokens.json: ids follow the vocabulary without a gap."
            )


def _merge_map(fields: dict[str, Any], special_tokens_map: Mapping[str, Any]) -> None:
    """special_tokens_map.json wins over tokenizer_config.json, except that lists are joined."""
    for name, value in special_tokens_map.items():
        if name == _EXTRA and isinstance(value, list):
            fields[_EXTRA] = [*(fields.get(_EXTRA) or ()), *value]
        elif isinstance(value, dict) and name != _EXTRA:
            fields[name] = _token({**value, "special": True}, name)
        else:
            fields[name] = value


def _numbered(fields: Mapping[str, Any], added_tokens: Mapping[str, Any]) -> dict[int, AddedToken]:
    special = {str(fields[name]) for name in _NAMES if fields.get(name)}
    extra = fields.get(_EXTRA)
    special |= {str(token) for token in extra} if isinstance(extra, list) else set()
    return {
        _id(number, f"added_tokens.json: {content}"): AddedToken(
            content, special=content in special, normalized=content not in special
        )
        for content, number in added_tokens.items()
    }


def _taken(fields: dict[str, Any], kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Tokens under names that are a model's own, such as `image_token`; no longer in `fields` then."""
    names = [
        name
        for name, value in fields.items()
        if name.endswith("_token") and name not in _NAMES and isinstance(value, kinds)
    ]
    return {name: fields.pop(name) for name in names}


def _taken_extra(fields: dict[str, Any]) -> dict[str, Any]:
    """Extra tokens that have names."""
    extra = fields.get(_EXTRA)
    return dict(fields.pop(_EXTRA)) if isinstance(extra, dict) else {}


def _extra_tokens(value: object) -> list[Token]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(_EXTRA, value, "a list of tokens, or an object of named ones")
    return [_text_or_token(token, _EXTRA) for token in value]


def _as_added(token: Token, is_named: bool) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True)
    if is_named:
        token.special = True  # in place: a `normalized` that was not given follows it
    return token


def _text_or_token(value: object, name: str) -> Token:
    return value if isinstance(value, str | AddedToken) else _token(value, name)


def _token(value: object, name: str) -> AddedToken:
    state = dict(value) if isinstance(value, dict) else {}
    state.pop("__type", None)
    if not isinstance(state.get("content"), str):
        raise _invalid(name, value, "a text, or an object with its content")
    try:
        return AddedToken(**state)
    except TypeError as error:
        raise _invalid(name, value, "an object of transformers' AddedToken") from error


def _id(value: object, name: str) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise _invalid(name, value, "a token id")
    return number


def _object(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(name, value, "an object")
    return value


def _invalid(name: str, value: object, must: str) -> ModelInvalidError:
    return ModelInvalidError(
        f"tokenizer_config.json, or a file beside it: {name} is {value!r:.200}; it must be {must}."
    )
