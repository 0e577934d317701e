"""The reference names every flag and metric that exists, and none that does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from octavo.cli.main import run
from octavo.models.registry import FAMILIES
from octavo.server.lifecycle import Lifecycle
from octavo.server.metrics import ServerMetrics

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def test_every_flag_of_serve_is_in_the_reference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run(["serve", "--help"])
    shown = set(re.findall(r"│ (--[a-z-]+)", capsys.readouterr().out)) - {"--help"}
    assert len(shown) > 20
    text = (REFERENCE / "cli.md").read_text()
    section = text.split("## `octavo serve MODEL`")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE)) == shown


def test_every_architecture_is_in_the_reference() -> None:
    text = (REFERENCE / "cli.md").read_text()
    assert re.findall(r"^\| `(\w+ForCausalLM)`", text, re.MULTILINE) == sorted(FAMILIES)


def test_every_metric_is_in_the_reference() -> None:
    lifecycle = Lifecycle(lambda: 0.0)
    lifecycle.begin_phase("load")
    lifecycle.mark_ready()
    text = ServerMetrics("m", lifecycle, lambda: None).exposition().decode()
    families = re.findall(r"^# TYPE (octavo_\w+) (\w+)", text, re.MULTILINE)
    documented = dict.fromkeys(
        re.findall(r"`(octavo_\w+)(?:\{\w+\})?`", (REFERENCE / "metrics.md").read_text())
    )
    assert set(documented) == {name for name, _ in families}
