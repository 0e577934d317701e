"""`octavo serve MODEL`. The flags are vLLM's where vLLM has one."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from octavo.cli.quantity import parse_bytes
from octavo.config import Device, EngineConfig, KVCacheDtype, LoadFormat, Quantization
from octavo.errors import OctavoError

_API = "API"
_MODEL = "Model"
_ENGINE = "Engine"
_OPERATION = "Operation"
_LOG_LEVELS = ("debug", "info", "warning", "error")


def serve_command(
    model: Annotated[
        str,
        typer.Argument(
            help="builtin://demo, hf://org/name\\[@revision], org/name, s3://bucket/prefix or a folder."
        ),
    ],
    served_model_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Name for clients; repeatable. Default: MODEL, no scheme.",
            rich_help_panel=_API,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address of both ports.", rich_help_panel=_API)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="OpenAI API.", rich_help_panel=_API)] = 8000,
    ops_port: Annotated[
        int,
        typer.Option(help="/livez, /readyz, /startupz, /metrics.", rich_help_panel=_API),
    ] = 8001,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Key that clients must send; repeatable. Better given by the environment.",
            envvar="OCTAVO_API_KEY",
            show_envvar=True,
            rich_help_panel=_API,
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(help="Jinja file instead of the model's own.", rich_help_panel=_MODEL),
    ] = None,
    generation_config: Annotated[
        str,
        typer.Option(
            help="Sampling defaults: auto (the model's own), none, or a folder.",
            rich_help_panel=_MODEL,
        ),
    ] = "auto",
    max_body_size: Annotated[
        str | None,
        typer.Option(
            help="Largest request body (8Mi). Default: by the context, at least 4Mi.",
            rich_help_panel=_API,
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=_MODEL),
    ] = None,
    download_dir: Annotated[
        Path | None, typer.Option(help="Where downloads are kept.", rich_help_panel=_MODEL)
    ] = None,
    load_format: Annotated[
        LoadFormat,
        typer.Option(help="dummy makes random weights.", rich_help_panel=_MODEL),
    ] = LoadFormat.AUTO,
    dtype: Annotated[
        str,
        typer.Option(help="auto, float32, float16 or bfloat16.", rich_help_panel=_MODEL),
    ] = "auto",
    max_model_len: Annotated[
        int | None,
        typer.Option(help="Context in tokens. Default: the model's.", rich_help_panel=_MODEL),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="auto takes a GPU where one is.", rich_help_panel=_ENGINE)
    ] = Device.AUTO,
    gpu_memory_utilization: Annotated[
        float, typer.Option(help="Share of the GPU's memory.", rich_help_panel=_ENGINE)
    ] = 0.9,
    kv_cache_memory: Annotated[
        str | None,
        typer.Option(
            help="Size of the KV cache (256Mi). Default: what is free.", rich_help_panel=_ENGINE
        ),
    ] = None,
    kv_cache_dtype: Annotated[
        KVCacheDtype,
        typer.Option(help="fp8 halves the KV cache.", rich_help_panel=_ENGINE),
    ] = KVCacheDtype.AUTO,
    quantization: Annotated[
        Quantization | None,
        typer.Option(help="Packs the weights at load (CPU).", rich_help_panel=_MODEL),
    ] = None,
    enable_prefix_caching: Annotated[
        bool,
        typer.Option(help="Prompts that begin alike share blocks.", rich_help_panel=_ENGINE),
    ] = True,
    block_size: Annotated[
        int, typer.Option(help="Tokens in a KV-cache block.", rich_help_panel=_ENGINE)
    ] = 16,
    max_num_seqs: Annotated[
        int, typer.Option(help="Sequences that run at once.", rich_help_panel=_ENGINE)
    ] = 256,
    max_num_batched_tokens: Annotated[
        int, typer.Option(help="Tokens of one step.", rich_help_panel=_ENGINE)
    ] = 2048,
    enforce_eager: Annotated[
        bool, typer.Option("--enforce-eager", help="No CUDA graphs.", rich_help_panel=_ENGINE)
    ] = False,
    seed: Annotated[
        int,
        typer.Option(help="For requests that bring none.", rich_help_panel=_ENGINE),
    ] = 0,
    max_queued_requests: Annotated[
        int,
        typer.Option(help="More that wait are refused with 429.", rich_help_panel=_OPERATION),
    ] = 1024,
    shutdown_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds for running requests to finish after SIGTERM.",
            rich_help_panel=_OPERATION,
        ),
    ] = 120.0,
    shutdown_grace: Annotated[
        float,
        typer.Option(
            help="Seconds after SIGTERM in which new requests are still answered.",
            rich_help_panel=_OPERATION,
        ),
    ] = 5.0,
    stall_timeout: Annotated[
        float,
        typer.Option(
            help="Seconds without a step, while requests run, until /livez fails.",
            rich_help_panel=_OPERATION,
        ),
    ] = 120.0,
    log_level: Annotated[
        str,
        typer.Option(
            help=", ".join(_LOG_LEVELS), envvar="OCTAVO_LOG_LEVEL", rich_help_panel=_OPERATION
        ),
    ] = "info",
) -> int:
    """Serve a model behind OpenAI's API.

    Example: octavo serve builtin://demo
    """
    # Until the server listens to signals itself: process 1 of a container has no default handler.
    signal.signal(signal.SIGTERM, _end)
    from octavo.model_source import default_served_name
    from octavo.server.process.options import ServeOptions
    from octavo.server.process.run import fail, serve

    try:
        options = ServeOptions(
            model=model,
            engine=EngineConfig(
                model=model,
                dtype=dtype,
                device=device,
                load_format=load_format,
                max_model_len=max_model_len,
                block_size=block_size,
                gpu_memory_utilization=gpu_memory_utilization,
                kv_cache_memory_bytes=(
                    None
                    if kv_cache_memory is None
                    else parse_bytes("--kv-cache-memory", kv_cache_memory)
                ),
                kv_cache_dtype=kv_cache_dtype,
                quantization=quantization,
                enable_prefix_caching=enable_prefix_caching,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=max_num_batched_tokens,
                max_queued_requests=max_queued_requests,
                enforce_eager=enforce_eager,
                seed=seed,
            ),
            served_names=tuple(served_model_name or [default_served_name(model)]),
            host=host,
            port=port,
            ops_port=ops_port,
            api_keys=tuple(api_key or ()),
            chat_template=chat_template,
            generation_config=generation_config,
            download_dir=download_dir,
            revision=revision,
            max_body_bytes=(
                None if max_body_size is None else parse_bytes("--max-body-size", max_body_size)
            ),
            shutdown_timeout_seconds=shutdown_timeout,
            shutdown_grace_seconds=shutdown_grace,
            stall_timeout_seconds=stall_timeout,
            log_level=_checked_level(log_level),
        )
    except OctavoError as error:
        return fail(error)
    return serve(options)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _checked_level(level: str) -> str:
    if level.lower() not in _LOG_LEVELS:
        from octavo.errors import InvalidConfigurationError

        raise InvalidConfigurationError(
            f"--log-level is {level!r}; use one of {', '.join(_LOG_LEVELS)}."
        )
    return level.lower()
