"""Loading of a tokenizer from a model's folder.

tokenizer.json holds vocabulary and pipeline, and mostly the tokens; tokenizer_config.json and others beside
it add tokens and switches. All are read as `AutoTokenizer` reads them, without transformers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tokenizers
from tokenizers.models import BPE

from octavo.chat import ContentFormat, load_chat_templates
from octavo.errors import ModelInvalidError
from octavo.json_files import read_json_object_if_any
from octavo.loading.tokenizer_files import find_tokenizer_file
from octavo.tokenizer.built_classes import CLASSES
from octavo.tokenizer.classes import AS_IT_STANDS, choose_class
from octavo.tokenizer.cleanup import with_cleanup
from octavo.tokenizer.declared_tokens import DeclaredTokens, check_ids, read_declared_tokens
from octavo.tokenizer.mistral_words import mend_words
from octavo.tokenizer.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

_SEGMENTS = "token_type_ids"
_BYTE_LEVEL = b'"ByteLevel"'
_IN_NO_VOCABULARY = "\U0010ffff"  # for ever no character


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _TokenizerFile(msgspec.Struct):
    added_tokens: list[_AddedToken] = []


def load_tokenizer(
    folder: Path,
    chat_template: str | None = None,
    content_format: ContentFormat = ContentFormat.AUTO,
) -> Tokenizer:
    """The tokenizer of the model in `folder`.

    Args:
        folder: Holds tokenizer.json and perhaps the files that transformers writes beside it.
        chat_template: Overrides the model's: a path to a Jinja file, the name of one of the
            model's, or the template itself.
        content_format: In which the templates read the content of messages.

    Raises:
        ModelInvalidError: A file is missing or damaged, or two of them contradict each other.
        ModelUnsupportedError: What a file asks for is not implemented.
    """
    config = read_json_object_if_any(folder / "tokenizer_config.json")
    model_config = read_json_object_if_any(folder / "config.json")
    written, names_byte_level = _read_backend(find_tokenizer_file(folder, config))
    name = choose_class(config, model_config, names_byte_level=names_byte_level)
    backend, tokens = _rebuild(written, _its_class(written, name), folder, config)
    _check_unknown(backend)
    mend_words(backend, config, model_config)
    backend.encode_special_tokens = bool(config.get("split_special_tokens"))
    if _cleans_up(backend, config):
        backend.decoder = with_cleanup(backend.decoder)
    special_tokens = {name: str(token) for name, token in tokens.named.items()}
    templates = load_chat_templates(folder, config, chat_template, special_tokens, content_format)
    inputs = config.get("model_input_names")
    if inputs is None:
        tells_segments = name in CLASSES and CLASSES[name].tells_segments
    else:
        tells_segments = _SEGMENTS in inputs
    return Tokenizer(backend, special_tokens, templates, tells_segments=tells_segments)


def _read_backend(path: Path) -> tuple[tokenizers.Tokenizer, bool]:
    """The tokenizer, and whether a part of it is called `ByteLevel`."""
    try:
        content = path.read_bytes()
        backend = tokenizers.Tokenizer.from_buffer(content)
        written = msgspec.json.decode(content, type=_TokenizerFile)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalidError(f"{path} is damaged: {error}") from error
    check_ids(backend, ((token.content, token.id) for token in written.added_tokens))
    return backend, _BYTE_LEVEL in content


def _rebuild(
    written: tokenizers.Tokenizer, name: str, folder: Path, config: Mapping[str, Any]
) -> tuple[tokenizers.Tokenizer, DeclaredTokens]:
    """Of what tokenizer.json holds, the tokenizer that the files beside it say, tokens included."""
    own = written.get_added_tokens_decoder()
    defaults: dict[str, Any] = {}
    if padding := written.padding:
        defaults["pad_token"] = padding["pad_token"]
    built = CLASSES.get(name)
    backend = written
    if built is not None:
        defaults |= built.defaults
        backend = built.pipeline(config).around(written)
    tokens = read_declared_tokens(
        config,
        read_json_object_if_any(folder / "special_tokens_map.json"),
        read_json_object_if_any(folder / "added_tokens.json"),
        own,
        defaults,
    )
    if built is not None:
        tokens = built.prepare(tokens)
    tokens.add_to(backend)
    if built is not None:
        built.finish(backend, tokens)
    backend.no_truncation()
    backend.no_padding()
    return backend, tokens


def _check_unknown(backend: tokenizers.Tokenizer) -> None:
    """Raises `ModelInvalidError` where a character that the vocabulary lacks is an error of each request."""
    words = [(_IN_NO_VOCABULARY, None)]
    if backend.pre_tokenizer is not None:
        words = backend.pre_tokenizer.pre_tokenize_str(_IN_NO_VOCABULARY)
    try:
        for word, _ in words:
            backend.model.tokenize(word)
    except Exception as error:  # the Rust library raises bare Exception
        raise ModelInvalidError(
            f"tokenizer.json: what its vocabulary lacks has no token there ({error}), so that texts would be "
            "refused one by one. Add the unknown token to model.vocab, or name one that is in it "
            "(model.unk_token, and unk_token in tokenizer_config.json)."
        ) from error


def _its_class(written: tokenizers.Tokenizer, name: str) -> str:
    if name not in CLASSES or CLASSES[name].fits(written):
        return name
    _log.warning(
        "tokenizer.json is used as it stands: its normalizer and pre_tokenizer are not those of %s, which "
        "transformers would make of it.",
        name,
    )
    return AS_IT_STANDS


def _cleans_up(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> bool:
    """transformers leaves BPE alone unless it is told twice: its spaces are the text's own."""
    if not config.get("clean_up_tokenization_spaces"):
        return False
    is_forced = config.get(
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    )
    return bool(is_forced) or not isinstance(backend.model, BPE)
