"""Command line of `octavo serve`, read and not run."""

from __future__ import annotations

from typing import Any

import typer

from octavo.cli.main import app
from octavo.cli.serve import serve_options
from octavo.server.process.options import ServeOptions

COMMANDS: Any = typer.main.get_command(app)


def parsed(arguments: list[str]) -> ServeOptions:
    """What octavo's command line makes of the arguments of a pod; nothing is served."""
    flags = context_of(arguments)
    return serve_options(flags.pop("model"), flags)


def context_of(arguments: list[str]) -> dict[str, Any]:
    """The values of the flags and arguments of a command line."""
    name, *rest = arguments
    return dict(COMMANDS.commands[name].make_context(name, rest).params)
