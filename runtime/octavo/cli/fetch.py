"""`octavo fetch MODEL --to DIR`: downloads once, for a volume that many replicas share."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli.flags import PATH


def fetch_command(
    model: Annotated[
        str, typer.Argument(help="hf://org/name[@revision], org/name or s3://bucket/prefix.")
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder that keeps the download.", **PATH)],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    progress_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="OCTAVO_PROGRESS_ADDRESS",
            help="Answers /startupz there while it downloads.",
        ),
    ] = None,
) -> int:
    """Download a model, and print the folder that holds it.

    `octavo serve MODEL --download-dir DIR` finds it there.
    """
    from octavo.errors import InvalidConfigurationError, OctavoError
    from octavo.loading.progress import Tell
    from octavo.logs import configure_logging
    from octavo.model_source import resolve
    from octavo.server.process.failure import fail
    from octavo.server.process.progress import BytesShown
    from octavo.server.process.progress_port import ProgressPort

    configure_logging("info")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            told: list[Tell] = [stack.enter_context(BytesShown("downloading"))]
            if progress_address:
                told.append(stack.enter_context(ProgressPort(progress_address)))

            def tell(done: int, total: int) -> None:
                for each in told:
                    each(done, total)

            folder = resolve(model, download_dir=to, revision=revision, tell=tell)
    except OctavoError as error:
        return fail(error)
    except OSError as error:
        message = f"--to is {to}, which cannot be used ({error.strerror}). Give a writable folder."
        return fail(InvalidConfigurationError(message))
    if not folder.resolve().is_relative_to(to.resolve()):
        print(f"{model} is on this machine: nothing was downloaded into {to}.", file=sys.stderr)
    print(folder)
    return 0
