"""Texts of a model: its tokenizer, what ends an answer, and what a request takes that leaves something out.
What an API process reads of a model's folder, while the engine process loads the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from octavo.chat import ContentFormat
from octavo.end_tokens import find_end_tokens
from octavo.generation_config import SamplingDefaults, choose_sampling_defaults
from octavo.server.process.options import ServeOptions
from octavo.tokenizer import Tokenizer, load_tokenizer

log = structlog.get_logger("octavo.server")


@dataclass(frozen=True, slots=True)
class Texts:
    tokenizer: Tokenizer
    end_token_ids: tuple[int, ...]
    defaults: SamplingDefaults


def read_texts(folder: Path, options: ServeOptions, *, is_logging: bool = True) -> Texts:
    """Logs what ends an answer and what requests get, once for a server. Raises `OctavoError`."""
    content_format = ContentFormat(options.chat_template_content_format)
    tokenizer = load_tokenizer(folder, options.chat_template, content_format)
    found = find_end_tokens(folder, options.generation_config, tokenizer)
    texts = [tokenizer.backend.id_to_token(token_id) for token_id in found]
    if is_logging:
        log.info("tokens that end an answer", tokens=dict(zip(found, texts, strict=True)))
    defaults = choose_sampling_defaults(folder, options.generation_config)
    if is_logging and defaults.values:
        log.info("sampling defaults of the model", **defaults.values)
    return Texts(tokenizer, found, defaults)
