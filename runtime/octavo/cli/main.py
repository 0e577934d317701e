"""Entry point: commands, version, and what a wrong flag answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from octavo import __version__
from octavo.cli import bench, chat, fetch, inspection, serve, top
from octavo.cli.flags import spread
from octavo.cli.help import Command

_USAGE_STATUS = 2
_POD_COMMANDS = ("serve", "fetch")

app = typer.Typer(
    name="octavo",
    help="LLM serving for Kubernetes and for this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", cls=Command)(serve.serve_command)
app.command("fetch", cls=Command)(fetch.fetch_command)
app.command("inspect", cls=Command)(inspection.inspect_command)
app.command("chat", cls=Command)(chat.chat_command)
app.command("top", cls=Command)(top.top_command)
app.add_typer(bench.app, name="bench")


@app.callback()
def _octavo(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        print(f"octavo {__version__}")
        raise typer.Exit


def run(arguments: list[str]) -> int:
    """The exit status of a command."""
    if arguments == ["--version"]:
        print(f"octavo {__version__}")
        return 0
    try:
        status = app(
            args=spread(arguments, "--lora-modules"), prog_name="octavo", standalone_mode=False
        )
    except typer.Abort:
        return 130
    except typer.TyperException as error:
        return _usage_error(arguments, error)
    return status if isinstance(status, int) else 0


def _usage_error(arguments: list[str], error: typer.TyperException) -> int:
    """A pod's wrong flag must reach the custom resource like any other failed start."""
    command = next((one for one in arguments if not one.startswith("-")), None)
    message = error.format_message()
    if "--served-model-name" in arguments and "unexpected extra argument" in message:
        message = f"{message.rstrip('.')}. --served-model-name takes one name; repeat it for each."
    if command in _POD_COMMANDS:
        from octavo.errors import InvalidConfigurationError
        from octavo.server.process.termination import USER_ERROR_STATUS, write_termination

        write_termination(InvalidConfigurationError.reason, message)
        print(
            f"octavo: {InvalidConfigurationError.reason}: {message} (see octavo {command} --help)",
            file=sys.stderr,
        )
        return USER_ERROR_STATUS
    if not message:  # `octavo` alone: its help has been printed
        return _USAGE_STATUS
    print(f"octavo: {message} (see {_command_path(arguments)} --help)", file=sys.stderr)
    return _USAGE_STATUS


def _command_path(arguments: list[str]) -> str:
    """The command whose flags these are; of not every error typer knows it."""
    words, found = ["octavo"], typer.main.get_command(app)
    for one in arguments:
        below = getattr(found, "commands", {})  # of a group
        if one in below:
            found = below[one]
            words.append(one)
    return " ".join(words)
