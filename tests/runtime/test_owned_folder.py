"""A folder goes with its owner or, where that was killed, with the next start; nobody else's ever does."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from octavo.owned_folder import OwnedFolder

_OWNER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from octavo.owned_folder import OwnedFolder
folder = OwnedFolder("octavo-test-")
(folder.path / "socket").touch()
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def owner(root: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_next_start_removes_what_a_killed_one_left_and_nothing_else(root: Path) -> None:
    killed, left = owner(root)
    living, kept = owner(root)
    with killed, living:
        killed.kill()
        killed.wait()
        strangers = root / "strangers"
        strangers.mkdir()
        (strangers / "file").touch()
        (root / "octavo-test-link").symlink_to(strangers)
        (root / "octavo-test-file").touch()
        (root / "octavo-other-folder").mkdir()
        assert (left / "socket").exists()
        mine = OwnedFolder("octavo-test-")
        assert {each.name for each in root.iterdir()} == {
            *(kept.name, mine.path.name, "strangers"),
            *("octavo-test-link", "octavo-test-file", "octavo-other-folder"),
        }
        assert (kept / "socket").exists()
        assert (strangers / "file").exists()
        assert mine.path.stat().st_mode & 0o777 == 0o700
        living.kill()
    mine.remove()
    mine.remove()
    assert not mine.path.exists()
    assert kept.exists()  # nothing has started since
    OwnedFolder("octavo-test-").remove()
    assert not kept.exists()
