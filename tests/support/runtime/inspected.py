"""`octavo inspect`, called: what it prints as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.cli.main import run


def inspect(capsys: pytest.CaptureFixture[str], folder: Path, *flags: str) -> dict[str, Any]:
    run(["inspect", str(folder), "--json", *flags])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
