"""Vocabulary check of a draft model: a guess is a token id, so both tokenizers must mean the same by it.

The answers of the model stay right whatever is guessed; guesses of other tokens would hardly ever come true,
and each would cost its step. Tokens that were added for a chat's turns may differ: checkpoints of one family
rename those that were reserved. So may the sizes of the tables, whose last rows may be no token's.
"""

from __future__ import annotations

import filecmp
from pathlib import Path

import msgspec

from octavo.config import EngineConfig
from octavo.errors import ModelInvalidError
from octavo.json_files import read_json_object_if_any
from octavo.loading.tokenizer_files import find_tokenizer_file
from octavo.models.base import ModelConfig
from octavo.worker.start.drafter_checks import refused


class _Model(msgspec.Struct):
    vocab: dict[str, int] | list[tuple[str, float]] = {}


class _TokenizerFile(msgspec.Struct):
    model: _Model


def check_vocabulary(
    config: EngineConfig, draft: ModelConfig, model: ModelConfig, folder: Path
) -> None:
    """Of the draft model in `folder`, against the model of `config.model`.

    Tokenizers that are not there are not compared where the sizes are the same: an inspection may have the
    headers alone, and a model without one is served by token ids.

    Raises:
        InvalidConfigurationError: The two have not the same.
        ModelInvalidError: A tokenizer.json cannot be read.
    """
    size, own = draft.spec.vocab_size, model.spec.vocab_size
    theirs, ours = _tokenizer_of(folder), _tokenizer_of(Path(config.model))
    if theirs is None or ours is None:
        if size == own:
            return
        lacking = folder if theirs is None else config.model
        raise refused(
            config,
            f"the draft model's config.json has the vocabulary size (vocab_size) {size}, and the model's "
            f"{own}, while {lacking} holds no tokenizer.json: nothing tells whether their tokens are the "
            "same, and one of them is padded. Put the tokenizers beside the weights.",
        )
    if filecmp.cmp(theirs, ours, shallow=False):
        return
    different = _first_difference(_tokens(theirs), _tokens(ours))
    if different is not None:
        token_id, guessed, meant = different
        raise refused(
            config,
            f"the draft model has another vocabulary than the model: token {token_id} is {guessed} there "
            f"and {meant} in the model. They must have the same vocabulary.",
        )


def _tokenizer_of(folder: Path) -> Path | None:
    try:
        return find_tokenizer_file(
            folder, read_json_object_if_any(folder / "tokenizer_config.json")
        )
    except ModelInvalidError:
        return None


def _tokens(path: Path) -> dict[int, str]:
    """By their ids, without those that were added."""
    try:
        vocab = msgspec.json.decode(path.read_bytes(), type=_TokenizerFile).model.vocab
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise ModelInvalidError(f"{path} cannot be read: {error}") from error
    if isinstance(vocab, dict):
        return {token_id: token for token, token_id in vocab.items()}
    return dict(enumerate(token for token, _ in vocab))


def _first_difference(draft: dict[int, str], model: dict[int, str]) -> tuple[int, str, str] | None:
    """Its id, and what each has there."""
    if draft == model:
        return None
    different = (
        one for one in sorted(draft.keys() | model.keys()) if draft.get(one) != model.get(one)
    )
    first = next(different)
    return first, _quoted(draft.get(first)), _quoted(model.get(first))


def _quoted(token: str | None) -> str:
    return "none" if token is None else f"{token!r:.100}"
