"""Docstrings of modules: each begins with the noun that one would search for, not with what it does."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("runtime", "operator", "e2e", "images", "host", "benchmarks", "training")
# How a sentence begins that tells of something without having named it.
_NO_NOUNS = re.compile(
    r"(What|How|Who|Whose|Where|Which|When|Why|Whether|If|From|Between|In|On|Every|One|All|The|A|An|It|This"
    r"|Runs|Takes|Turns|Finds|Chooses|Draws|Decides|Lays|Loads|Reads|Keeps|Puts|Tells|Carries|Builds|Makes"
    r"|Notices|Narrows|Picks|Compiles|Starts|Times|Asks|Brings|Wires|Pure|Small)\b"
)


def modules() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", *(f"{folder}/*.py" for folder in FOLDERS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def test_there_are_modules() -> None:
    assert len(modules()) > 400


@pytest.mark.parametrize("module", modules())
def test_a_module_names_its_noun_first(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text("utf-8"))
    docstring = ast.get_docstring(tree)
    if docstring is None:
        assert not tree.body, "a module with code has a docstring"
        return
    assert not _NO_NOUNS.match(docstring), docstring.splitlines()[0]
