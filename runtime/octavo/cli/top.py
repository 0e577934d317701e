"""`octavo top [URL]`: the load of a server in the terminal, as its page shows it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli.served_model import KEY_HINT, no_answer
from octavo.server.process.options import API_KEY_VARIABLE

if TYPE_CHECKING:
    from rich.table import Table

    from octavo.client import Client
    from octavo.server.openai.load import Load

_INTERRUPTED = 130
_LONGEST_ANSWER_SECONDS = 10.0
_BAR_WIDTH = 30
_COLUMNS = ("RUNNING", "WAITING", "KV USED", "KV TOKENS", "TOKENS/S", "PREEMPTED")


class NoLoadError(Exception):
    """The server does not tell its load; the message says why, and what to do."""


def top_command(
    url: Annotated[str, typer.Argument(help="The server.")] = "http://127.0.0.1:8000",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="So many looks. Default: no end.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar=API_KEY_VARIABLE, show_envvar=True, help="Of the server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each look.")] = False,
) -> int:
    """Show what a server runs, what waits, and what its KV cache holds. Ctrl-C ends it."""
    show = _show_json if as_json else _show_picture if sys.stdout.isatty() else _show_lines
    try:
        asyncio.run(show(_looks(url, api_key, interval, count)))
    except NoLoadError as error:
        print(f"octavo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


class Look:
    """One answer, and the tokens a second made since the one before; None at the first."""

    def __init__(self, load: Load, before: Look | None) -> None:
        self.load = load
        self.moment = time.monotonic()
        self.tokens_per_second: float | None = None
        if before is not None:
            made = load.generation_tokens_total - before.load.generation_tokens_total
            # An engine that was started anew counts from zero.
            self.tokens_per_second = max(0, made) / (self.moment - before.moment)


async def _looks(
    url: str, api_key: str | None, interval: float, count: int | None
) -> AsyncIterator[Look]:
    from octavo.client import Client

    look: Look | None = None
    async with Client(url, api_key, timeout_seconds=_LONGEST_ANSWER_SECONDS) as client:
        while count is None or count > 0:
            if look is not None:
                await asyncio.sleep(interval)
            look = Look(await _load(client), look)
            yield look
            count = None if count is None else count - 1


async def _load(client: Client) -> Load:
    import aiohttp
    import msgspec

    from octavo.client import UnexpectedAnswerError
    from octavo.server.openai.load import Load

    try:
        return msgspec.json.decode(await client.get("load"), type=Load)
    except msgspec.MsgspecError as error:
        raise NoLoadError(f"{client.root}/load is not Octavo's: {error}.") from error
    except UnexpectedAnswerError as error:
        hint = KEY_HINT if error.status in (401, 403) else "Is URL an Octavo of this version?"
        raise NoLoadError(f"{client.root}/load answers {error} {hint}") from error
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise NoLoadError(no_answer(client.root, error)) from error


async def _show_json(looks: AsyncIterator[Look]) -> None:
    import msgspec

    async for look in looks:
        print(msgspec.json.encode(look.load).decode(), flush=True)


async def _show_lines(looks: AsyncIterator[Look]) -> None:
    """As `vmstat`: a line for each look, for files and pipes."""
    widths = [len(name) + 2 for name in _COLUMNS]
    is_first = True
    async for look in looks:
        rows = [_COLUMNS, _cells(look)] if is_first else [_cells(look)]
        for row in rows:
            print("".join(map(str.rjust, row, widths)), flush=True)
        is_first = False


async def _show_picture(looks: AsyncIterator[Look]) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        async for look in looks:
            live.update(_picture(look), refresh=True)


def _cells(look: Look) -> list[str]:
    load, rate = look.load, look.tokens_per_second
    return [
        f"{load.requests_running:,}",
        f"{load.requests_waiting:,}",
        f"{load.kv_cache_usage_ratio:.1%}",
        f"{load.kv_cache_tokens:,}",
        "-" if rate is None else f"{rate:,.0f}",
        f"{load.preemptions_total:,}",
    ]


def _picture(look: Look) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    load, model = look.load, look.load.model
    running, waiting, used, held, rate, preempted = _cells(look)
    size = f" of {model.kv_cache_tokens:,}" if model.kv_cache_tokens else ""
    asked = load.prefix_cache_query_tokens_total
    hits = f"{load.prefix_cache_hit_tokens_total / asked:.1%}" if asked else "-"
    table = Table(
        title=Text(
            f"{model.name}  {model.dtype} on {model.device}, {model.max_model_len:,} tokens"
        ),
        show_header=False,
    )
    bar = ProgressBar(total=1.0, completed=load.kv_cache_usage_ratio, width=_BAR_WIDTH)
    for name, value, beside in (
        ("running", running, ""),
        ("waiting", waiting, ""),
        ("tokens/s", rate, ""),
        ("KV cache", used, bar),
        ("KV tokens", f"{held}{size}", ""),
        ("prefix hits", hits, ""),
        ("preempted", preempted, ""),
    ):
        table.add_row(name, value, beside)
    return table
