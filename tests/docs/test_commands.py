"""Every command line of ours on the pages is one that its program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from e2e.cluster.cli import app as cluster_app
from e2e.demo.__main__ import _parser as demo_parser
from images.build import parse_options
from octavo.cli.flags import spread
from octavo.cli.main import app as octavo_app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "charts/octavo/README.md", *(ROOT / "docs").rglob("*.md")]
TEXT = "\n".join(page.read_text("utf-8") for page in PAGES)


def typed(program: str) -> list[list[str]]:
    """The arguments after each mention of `program` that has some, up to the end of its line or code."""
    found = re.findall(rf"{re.escape(program)}(?=[ ])([^`\n|)]*)", TEXT)
    return [words for text in found if (words := shlex.split(text, comments=True))]


def takes(command: Any, words: list[str]) -> None:
    """Raises what the command would complain about; runs nothing."""
    while hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))


def takes_octavo(words: list[str]) -> None:
    takes(typer.main.get_command(octavo_app), spread(words, "--lora-modules"))


def takes_cluster(words: list[str]) -> None:
    takes(typer.main.get_command(cluster_app), words)


@pytest.mark.parametrize(
    ("program", "parse"),
    [
        (".venv/bin/python -m images.build", lambda words: parse_options(words, {})),
        (".venv/bin/python -m e2e.demo", lambda words: demo_parser().parse_args(words)),
        (".venv/bin/python -m e2e.cluster", takes_cluster),
        ("\noctavo", takes_octavo),
        ("docker run --rm --read-only --tmpfs /tmp -p 8000:8000 octavo-runtime", takes_octavo),
    ],
)
def test_commands_on_the_pages_are_taken(
    program: str, parse: Callable[[list[str]], object]
) -> None:
    commands = typed(program)
    assert commands
    for words in commands:
        parse(words)


def test_values_that_are_set_are_values_of_the_chart() -> None:
    values = yaml.safe_load((ROOT / "charts/octavo/values.yaml").read_text("utf-8"))
    keys = set(re.findall(r"--set(?:-string)?[ =]'?([\w.]+)=", TEXT))
    assert "prometheus.url" in keys
    for key in keys:
        node = values
        for part in key.split("."):
            assert part in node, key
            node = node[part]
