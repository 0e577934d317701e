"""The emulator is held to one version of Triton, which its page names."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_page_names_the_locked_triton() -> None:
    """With another version, see that its tests pass without a new instruction, then change the page."""
    page = (ROOT / "tests/support/ptx_emulator/README.md").read_text(encoding="utf-8")
    locked = re.findall(
        r"^triton==(\S+)", (ROOT / "locks/dev.txt").read_text("utf-8"), re.MULTILINE
    )
    assert re.findall(r"Held to Triton ([\d.]+)\*\*", page) == locked
