"""`octavo bench serve`: a load on a running server, in numbers."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.help import Command
from octavo.cli.served_model import KEY_HINT, NoModelError, first_model

if TYPE_CHECKING:
    from octavo.cli.load_generator import Load, LoadResult, LoadRun

_PROGRESS_SECONDS = 10.0
"""Between two lines of progress, where no terminal shows a bar."""
_INTERRUPTED = 130

app = typer.Typer(
    help="Measure a running server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _bench() -> None:
    """Keeps `serve` a sub-command."""


@app.command("serve", cls=Command)
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
    """Send streamed completions and report tokens/s, TTFT, TPOT, ITL and end-to-end percentiles.

    Exits with 1 when no request succeeded. Ctrl-C ends it early, and reports what has ended.
    """
    import msgspec

    from octavo.cli.load_generator import Load, LoadRun
    from octavo.client import api_base

    url = api_base(base_url)
    try:
        name = model or first_model(url, api_key, url_argument="--base-url")
    except NoModelError as error:
        print(f"octavo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    load = Load(
        base_url=url,
        model=name,
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
    run = LoadRun(load)
    is_interrupted = False
    try:
        asyncio.run(_send_and_tell(run, load))
    except KeyboardInterrupt:
        is_interrupted = True
    result = run.result()
    summary = {"model": name, "concurrency": concurrency, **result.summary()}
    if as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        _print_table(summary)
    if is_interrupted:
        ended = f"{len(result.timings)} of {num_prompts} requests had ended"
        print(f"octavo: interrupted; {ended}", file=sys.stderr)
        return _INTERRUPTED
    if not summary["succeeded"]:
        print(f"octavo: {_first_failure(result, url)}", file=sys.stderr)
        return 1
    return 0


async def _send_and_tell(run: LoadRun, load: Load) -> None:
    """The load, with its progress on standard error meanwhile."""
    telling = asyncio.create_task(_tell_progress(run, load))
    try:
        await run.send_all()
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell_progress(run: LoadRun, load: Load) -> None:
    if not sys.stderr.isatty():
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            now = run.result()
            failed = sum(timing.error is not None for timing in now.timings)
            line = f"{len(now.timings)} of {load.num_prompts} requests in {now.seconds:.0f} s"
            print(f"octavo: {line}, {failed} failed", file=sys.stderr, flush=True)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), "requests", TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=load.num_prompts)
        while True:
            progress.update(bar, completed=len(run.result().timings))
            await asyncio.sleep(0.2)


def _first_failure(result: LoadResult, url: str) -> str:
    """Why no request succeeded, in the words of the first."""
    first = result.timings[0]
    told = " ".join(filter(None, (first.error, first.detail)))
    hint = ""
    if (first.error or "").startswith(("401", "403")):
        hint = f" {KEY_HINT}"
    return f"no request to {url} succeeded: {told}{hint}"


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
