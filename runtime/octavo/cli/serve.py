"""`octavo serve MODEL`. The flags are vLLM's where vLLM has one."""

from __future__ import annotations

import json
import signal
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from octavo.cli.flags import values_of, with_flags
from octavo.config import EngineConfig
from octavo.errors import OctavoError
from octavo.server.process.options import ServeOptions
from octavo.server.process.tls_options import TlsOptions


@with_flags(ServeOptions, TlsOptions, EngineConfig)
def serve_command(
    model: Annotated[
        str,
        typer.Argument(
            help="builtin://demo, hf://org/name[@revision], org/name, s3://bucket/prefix or a folder."
        ),
    ],
    **flags: Any,
) -> int:
    """Serve a model behind OpenAI's API.

    Example: octavo serve builtin://demo
    """
    # Until the server listens to signals itself: process 1 of a container has no default handler.
    signal.signal(signal.SIGTERM, _end)
    from octavo.server.process.failure import fail
    from octavo.server.process.run import serve

    try:
        options = serve_options(model, flags)
    except OctavoError as error:
        return fail(error)
    return serve(options)


def serve_options(model: str, flags: dict[str, Any]) -> ServeOptions:
    """What the flags ask for. Raises `InvalidConfigurationError`."""
    from octavo.model_source import default_served_name

    values = values_of(ServeOptions, flags)
    return ServeOptions(
        model=model,
        engine=EngineConfig(model=model, **values_of(EngineConfig, flags)),
        tls=TlsOptions(**values_of(TlsOptions, flags)),
        **values
        | {
            "served_names": tuple(dict.fromkeys(values["served_names"] or ()))
            or (default_served_name(model),),
            "lora_modules": values["lora_modules"] or (),
            "api_keys": values["api_keys"] or (),
            "allowed_origins": _listed(values["allowed_origins"] or ()),
            "allowed_hosts": _listed(values["allowed_hosts"] or ()),
            "log_level": values["log_level"].lower(),
        },
    )


def _listed(given: tuple[str, ...]) -> tuple[str, ...]:
    """Each one, or a list of them in JSON, as vLLM's flag takes it."""
    found: list[str] = []
    for value in given:
        try:
            found += json.loads(value) if value.startswith("[") else [value]
        except ValueError:
            found.append(value)  # refused by what it is
    return tuple(map(str, found))


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
