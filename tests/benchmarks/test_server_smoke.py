"""The server's benchmark runs: Octavo's own API process and the bare one, with null models behind them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STARVED = ("token_us", "age_p50_ms", "age_p99_ms")
REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_figure_comes_and_a_missing_peer_is_named(tmp_path: Path) -> None:
    out = tmp_path / "server.json"
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.server", "--smoke", "--streams", "3"]
        + ["--pairs", "1", "--out", str(out)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert found["is_smoke"] is True
    assert found["sides"]["vllm"] == "not measured: not installed"
    (row,) = found["rows"]
    assert row["sides"].keys() == {"octavo", "bare"}
    for turn in row["sides"].values():
        # Where other work starves them, so few tokens may all come at once: then none has an age.
        assert all(value > 0 for name, value in turn.items() if name not in STARVED), turn
    assert row["ratios"]["bare"]["median"] > 0
