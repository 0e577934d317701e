"""Banner. What the log says when a server is ready, and what a person at a terminal sees."""

from __future__ import annotations

import json
import sys

import structlog

from octavo.engine.messages import EngineInfo
from octavo.server.process.lifecycle import Lifecycle
from octavo.server.process.options import ServeOptions

log = structlog.get_logger("octavo.server")

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "": "127.0.0.1"}  # noqa: S104 - shown, not bound


def announce(
    options: ServeOptions,
    info: EngineInfo,
    lifecycle: Lifecycle,
    port: int,
    ops_port: int,
    *,
    has_chat: bool,
) -> None:
    """Logs one line; at a terminal prints something to try.

    Args:
        has_chat: The model has a chat template.
    """
    scheme = "http" if options.tls.ssl_certfile is None else "https"
    url = f"{scheme}://{_host(options.host)}:{port}/v1"
    kv_tokens = info.num_kv_blocks * info.block_size
    phases = {phase.name: round(phase.seconds, 3) for phase in lifecycle.phases}
    log.info(
        "ready",
        url=url,
        ops_url=f"http://{_host(options.host)}:{ops_port}",
        models=list(options.served_names),
        device=info.device,
        dtype=info.dtype,
        max_model_len=info.max_model_len,
        kv_cache_tokens=kv_tokens,
        has_api_key=options.has_api_key,
        startup_seconds=round(lifecycle.startup_seconds or 0.0, 3),
        phases=phases,
        engine_phases={name: round(seconds, 3) for name, seconds in info.phases.items()},
    )
    if sys.stderr.isatty():
        text = _terminal_text(options, info, kv_tokens, url, lifecycle, has_chat=has_chat)
        print(text, file=sys.stderr)


def waiting_for(num_requests: int) -> None:
    """At a terminal, after the first Ctrl-C."""
    print(f"Waiting for {num_requests} running requests. Ctrl-C again to quit.", file=sys.stderr)


def _terminal_text(
    options: ServeOptions,
    info: EngineInfo,
    kv_tokens: int,
    url: str,
    lifecycle: Lifecycle,
    *,
    has_chat: bool,
) -> str:
    name = options.served_names[0]
    route, body = something_to_try(info, has_chat=has_chat)
    key = " -H 'Authorization: Bearer YOUR-KEY'" if options.has_api_key else ""
    chat = f"        octavo chat {url}\n" if route == "chat/completions" else ""
    cache = f"KV cache {kv_tokens} tokens, " if kv_tokens else ""
    return (
        f"\n  Octavo serves {name} at {url}\n"
        f"  {info.device}, {info.dtype}, context {info.max_model_len} tokens, "
        f"{cache}ready in {lifecycle.startup_seconds or 0.0:.1f} s\n\n"
        f"  Try:  curl {url}/{route}{key} -d '{json.dumps({'model': name, **body})}'\n{chat}"
    )


def something_to_try(info: EngineInfo, *, has_chat: bool) -> tuple[str, dict[str, object]]:
    """A route below /v1 that the model answers, and what to ask there beside the model's name."""
    if info.gives_scores:
        return "score", {"text_1": "What is 17 + 25?", "text_2": ["It is 42.", "It rains."]}
    if not info.can_generate:
        return "embeddings", {"input": "What is 17 + 25?"}
    if not has_chat:
        return "completions", {"prompt": "17 + 25 ="}
    return "chat/completions", {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}


def _host(host: str) -> str:
    shown = _EVERY_ADDRESS.get(host, host)
    return f"[{shown}]" if ":" in shown else shown
