"""`octavo chat [URL]`: a conversation in the terminal, with any server that speaks OpenAI's API."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.served_model import KEY_HINT, NoModelError, first_model
from octavo.server.process.options import API_KEY_VARIABLE

if TYPE_CHECKING:
    from openai import OpenAI
    from rich.console import Console


def chat_command(
    url: Annotated[str, typer.Argument(help="The server's /v1.")] = "http://127.0.0.1:8000/v1",
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Ask this one thing and exit.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Default: the server's first.")] = None,
    api_key: Annotated[
        str, typer.Option(envvar=API_KEY_VARIABLE, show_envvar=True, help="Of the server.")
    ] = "none",
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Of each answer.")] = None,
) -> int:
    """Talk to a server. Ctrl-C stops an answer, Ctrl-D ends the conversation."""
    from octavo.client import api_base

    base_url = api_base(url)
    text = message
    if text is None and not sys.stdin.isatty():
        text = sys.stdin.read()
    if text is not None and not text.strip():
        print("octavo: the message is empty: nothing was sent.", file=sys.stderr)
        return 2
    try:
        name = model or first_model(base_url, api_key, url_argument="URL")
    except NoModelError as error:
        print(f"octavo: {error}", file=sys.stderr)
        return 1
    import openai
    from rich.console import Console

    console = Console()
    # A person who waits asks again.
    client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
    given = {"temperature": temperature, "max_tokens": max_tokens}
    options = {key: value for key, value in given.items() if value is not None}
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    try:
        if text is not None:
            messages.append({"role": "user", "content": text})
            _answer(client, console, name, messages, options)
            return 0
        console.print(f"[dim]{name} at {base_url}. Ctrl-D ends.[/dim]")
        _converse(client, console, name, messages, options)
    except openai.APIConnectionError:
        print(f"octavo: nothing answers at {base_url}. Is `octavo serve` running?", file=sys.stderr)
        return 1
    except openai.AuthenticationError as error:
        print(f"octavo: {base_url} answers 401: {error.message} {KEY_HINT}", file=sys.stderr)
        return 1
    except openai.APIStatusError as error:
        print(f"octavo: {error.message}", file=sys.stderr)
        return 1
    return 0


def _converse(
    client: OpenAI,
    console: Console,
    model: str,
    messages: list[dict[str, str]],
    options: dict[str, Any],
) -> None:
    import openai

    while True:
        try:
            text = console.input("[bold cyan]you[/bold cyan] ")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not text.strip():
            continue
        messages.append({"role": "user", "content": text})
        try:
            answer = _answer(client, console, model, messages, options)
        except openai.BadRequestError as error:  # too long, say: the conversation can go on
            console.print(f"[red]{error.message}[/red]")
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": answer})


def _answer(
    client: OpenAI,
    console: Console,
    model: str,
    messages: list[dict[str, str]],
    options: dict[str, Any],
) -> str:
    """Prints an answer as it comes and returns it; Ctrl-C ends it early."""
    parts: list[str] = []
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    try:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                parts.append(chunk.choices[0].delta.content)
                console.print(parts[-1], end="", markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        stream.close()
    console.print()
    return "".join(parts)
