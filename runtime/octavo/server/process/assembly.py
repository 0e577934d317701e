"""Assembly. Puts the HTTP port together once the engine is ready. The only module that knows all its
parts."""

from __future__ import annotations

from pathlib import Path

import structlog

from octavo.engine.channel import EngineChannel
from octavo.engine.messages import EngineInfo
from octavo.json_files import read_json_object_if_any
from octavo.server.http.middleware import Middleware
from octavo.server.http.page import load_page
from octavo.server.openai.app import ServedModel, build_app, default_body_limit
from octavo.server.openai.fingerprint import system_fingerprint
from octavo.server.openai.generation import Generator
from octavo.server.openai.load import Load, LoadedModel
from octavo.server.openai.parsing.choice import choose_markup
from octavo.server.openai.pooled import read_pooled_use
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.tokenizer_info import tokenizer_info
from octavo.server.process.options import ServeOptions
from octavo.server.process.shared import SharedState
from octavo.server.process.texts import Texts

log = structlog.get_logger("octavo.server")


def assemble(
    options: ServeOptions,
    folder: Path,
    client: EngineChannel,
    texts: Texts,
    shared: SharedState,
) -> tuple[Generator, Middleware]:
    """The generator that counts what runs, and the app that the HTTP port serves."""
    generator = _generator(options, folder, client, texts, shared)
    page = load_page() if options.ui else None
    app = build_app(
        _served_model(options, folder, client.info, texts, shared, generator),
        shared.metrics,
        page,
        exposition=shared.read_metrics if options.public_metrics else None,
        tokenizer_info=tokenizer_info(folder, texts.tokenizer)
        if options.enable_tokenizer_info_endpoint
        else None,
    )
    middleware = Middleware(
        app,
        shared.lifecycle,
        shared.keys,
        shared.metrics,
        options.allowed_origins,
        options.answered_hosts,
        page,
        options.request_timeout_seconds,
        open_paths=("/metrics",) if options.public_metrics else (),
        accounts=shared.accounts,
    )
    return generator, middleware


def _generator(
    options: ServeOptions,
    folder: Path,
    client: EngineChannel,
    texts: Texts,
    shared: SharedState,
) -> Generator:
    markup = choose_markup(
        texts.tokenizer.chat_templates,
        read_json_object_if_any(folder / "tokenizer_config.json"),
        tool_call_parser=options.tool_call_parser,
        reasoning_parser=options.reasoning_parser,
    )
    log.info(
        "how answers are read",
        tool_call_parser=markup.calls_name,
        reasoning_parser=markup.reasoning_name,
    )
    engine = options.engine
    return Generator(
        client,
        texts.tokenizer,
        texts.end_token_ids,
        shared.gate,
        shared.metrics,
        markup,
        shared.adapters,
        fingerprint=system_fingerprint(options.model, options.revision, engine, client.info),
        guesses=engine.speculative_config is not None,
    )


def _served_model(
    options: ServeOptions,
    folder: Path,
    info: EngineInfo,
    texts: Texts,
    shared: SharedState,
    generator: Generator,
) -> ServedModel:
    prompts = PromptBuilder(
        texts.tokenizer,
        max_model_len=info.max_model_len,
        # A model's table may be padded beyond the tokenizer's ids; those mean nothing.
        vocab_size=min(info.vocab_size, texts.tokenizer.id_limit),
        max_prompts=options.engine.max_queued_requests,
    )
    loaded = LoadedModel.of(options.served_names[0], options.model, info)

    async def read_load() -> Load:
        return Load.of(loaded, await shared.read_view())

    return ServedModel(
        names=options.served_names,
        root=options.model,
        max_model_len=info.max_model_len,
        can_generate=info.can_generate,
        max_body_bytes=options.max_body_bytes or default_body_limit(info.max_model_len),
        generator=generator,
        prompts=prompts,
        defaults=texts.defaults,
        pooled_use=read_pooled_use(folder, info),
        read_load=read_load,
    )
