"""`octavo bench serve`: a load on a running server, in numbers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from octavo.cli.load_generator import Load

app = typer.Typer(
    help="Measure a running server.", no_args_is_help=True, pretty_exceptions_enable=False
)


@app.callback()
def _bench() -> None:
    """Keeps `serve` a sub-command."""


@app.command("serve")
def bench_serve_command(
    base_url: Annotated[str, typer.Option(help="The server's /v1.")] = "http://127.0.0.1:8000/v1",
    model: Annotated[str | None, typer.Option(help="Default: the server's first.")] = None,
    num_prompts: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 32,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each answer.")] = 128,
    prompt_words: Annotated[int, typer.Option(min=1, help="Length of random prompts.")] = 32,
    prompt: Annotated[str | None, typer.Option(help="This prompt instead of random ones.")] = None,
    request_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests started per second at most.")
    ] = None,
    respect_eos: Annotated[
        bool, typer.Option("--respect-eos", help="Answers may end before --max-tokens.")
    ] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="OCTAVO_API_KEY", show_envvar=True, help="Of the server.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random prompts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:
    """Send streamed completions and report tokens/s, TTFT, ITL and end-to-end percentiles.

    Exits with 1 when no request succeeded.
    """
    import asyncio

    import msgspec

    from octavo.cli.load_generator import Load, run_load

    load = Load(
        base_url=base_url.rstrip("/"),
        model=model or "",
        num_prompts=num_prompts,
        concurrency=concurrency,
        max_tokens=max_tokens,
        prompt_words=prompt_words,
        prompt=prompt,
        api_key=api_key,
        request_rate=request_rate,
        respects_eos=respect_eos,
        seed=seed,
    )
    try:
        if model is None:
            load = _with_first_model(load)
        summary = asyncio.run(run_load(load)).summary()
    except (OSError, EOFError) as error:
        print(f"octavo: nothing answers at {base_url}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    summary = {"model": load.model, "concurrency": concurrency, **summary}
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        _print_table(summary)
    return 0 if summary["succeeded"] else 1


def _with_first_model(load: Load) -> Load:
    import asyncio
    import dataclasses

    import msgspec

    from octavo.cli.load_generator import request

    status, body = asyncio.run(request(load, "GET", "/models", b""))
    if status != 200:
        raise EOFError(f"/models answered {status}; give --api-key or --model")
    return dataclasses.replace(load, model=msgspec.json.decode(body)["data"][0]["id"])


def _print_table(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, title=f"{summary['model']}, {summary['concurrency']} at once")
    for name, value in summary.items():
        if name in ("model", "concurrency") or value == {}:
            continue
        text = str(value)
        if isinstance(value, dict):
            text = "  ".join(f"{key} {number}" for key, number in value.items())
        table.add_row(name.replace("_", " "), text)
    Console().print(table)
