"""Disk use counts what the disk holds, and one holder at a time has a lock that names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from host.system import disk_use, exclusive

ROOT = Path(__file__).parents[2]


def test_hard_links_count_once_and_a_missing_folder_is_empty(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    alone = disk_use(tmp_path)
    assert alone >= 100_000
    os.link(tmp_path / "a", tmp_path / "folder/b")
    assert disk_use(tmp_path) == alone
    assert disk_use(tmp_path / "absent") == 0


def test_a_second_holder_waits_and_says_for_whom(tmp_path: Path) -> None:
    lock = tmp_path / "folder/lock"
    code = (
        "import sys, pathlib; from host.system import exclusive\n"
        "with exclusive(pathlib.Path(sys.argv[1])): print('held')"
    )
    with exclusive(lock):
        waiting = subprocess.Popen(
            [sys.executable, "-c", code, str(lock)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert waiting.stderr is not None
        assert f"Waiting for process {os.getpid()} to finish" in waiting.stderr.readline()
        assert waiting.poll() is None
    out, _ = waiting.communicate(timeout=60)
    assert out == "held\n"
