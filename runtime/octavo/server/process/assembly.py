"""Assembly. Puts the HTTP port together once the engine is ready. The only module that knows all its
parts."""

from __future__ import annotations

from pathlib import Path

import structlog

from octavo.engine.client import EngineClient
from octavo.generation_config import SamplingDefaults
from octavo.json_files import read_json_object_if_any
from octavo.server.http.admission import Admission
from octavo.server.http.middleware import Middleware
from octavo.server.http.page import load_page
from octavo.server.openai.app import ServedModel, build_app, default_body_limit
from octavo.server.openai.generation import Generator
from octavo.server.openai.load import Load, LoadedModel
from octavo.server.openai.parsing.choice import choose_markup
from octavo.server.openai.pooled import read_pooled_use
from octavo.server.openai.prompts import PromptBuilder
from octavo.server.openai.tokenizer_info import tokenizer_info
from octavo.server.process.api_keys import ApiKeys
from octavo.server.process.engine_view import EngineView
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.metrics import ServerMetrics
from octavo.server.process.options import ServeOptions
from octavo.tokenizer import Tokenizer

log = structlog.get_logger("octavo.server")


def assemble(
    options: ServeOptions,
    folder: Path,
    client: EngineClient,
    tokenizer: Tokenizer,
    end_token_ids: tuple[int, ...],
    defaults: SamplingDefaults,
    admission: Admission,
    lifecycle: Lifecycle,
    keys: ApiKeys,
    metrics: ServerMetrics,
) -> tuple[Generator, Middleware]:
    """The generator that counts what runs, and the app that the HTTP port serves."""
    info = client.info
    markup = choose_markup(
        tokenizer.chat_templates,
        read_json_object_if_any(folder / "tokenizer_config.json"),
        tool_call_parser=options.tool_call_parser,
        reasoning_parser=options.reasoning_parser,
    )
    log.info(
        "how answers are read",
        tool_call_parser=markup.calls_name,
        reasoning_parser=markup.reasoning_name,
    )
    generator = Generator(
        client,
        tokenizer,
        end_token_ids,
        admission,
        metrics,
        markup,
        options.served_names,
        guesses=options.engine.speculative_config is not None,
    )
    prompts = PromptBuilder(
        tokenizer,
        max_model_len=info.max_model_len,
        # A model's table may be padded beyond the tokenizer's ids; those mean nothing.
        vocab_size=min(info.vocab_size, tokenizer.id_limit),
        max_prompts=options.engine.max_queued_requests,
    )
    loaded = LoadedModel.of(options.served_names[0], options.model, info)

    def read_load() -> Load:
        return Load.of(loaded, EngineView(client.stats, client.num_under_way, info.block_size))

    model = ServedModel(
        names=options.served_names,
        root=options.model,
        max_model_len=info.max_model_len,
        max_body_bytes=options.max_body_bytes or default_body_limit(info.max_model_len),
        generator=generator,
        prompts=prompts,
        defaults=defaults,
        pooled_use=read_pooled_use(folder, info),
        read_load=read_load,
    )
    page = load_page() if options.ui else None
    middleware = Middleware(
        build_app(
            model,
            metrics,
            page,
            has_metrics=options.public_metrics,
            tokenizer_info=tokenizer_info(folder, tokenizer)
            if options.enable_tokenizer_info_endpoint
            else None,
        ),
        lifecycle,
        keys,
        metrics,
        options.allowed_origins,
        options.answered_hosts,
        page,
        options.request_timeout_seconds,
        open_paths=("/metrics",) if options.public_metrics else (),
    )
    return generator, middleware
