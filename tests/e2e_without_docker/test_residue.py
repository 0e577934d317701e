"""What an engine left is removed by name; what was there before it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.paths import Layout
from e2e.without_docker import residue


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "cache")
    layout.engine.mkdir(parents=True)
    return layout


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "etc-docker"
    monkeypatch.setattr(residue, "_PATHS_OUTSIDE", (folder / "key.json", folder))
    monkeypatch.setattr(residue, "BRIDGE", "octavo-none")
    return folder


def engine_writes(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "key.json").write_text("{}")


def test_what_the_engine_wrote_is_removed(layout: Layout, outside: Path) -> None:
    residue.remember(layout)
    engine_writes(outside)
    residue.remove(layout)
    assert not outside.exists()


def test_a_folder_that_was_there_stays_with_its_files(layout: Layout, outside: Path) -> None:
    outside.mkdir()
    (outside / "daemon.json").touch()
    residue.remember(layout)
    engine_writes(outside)
    residue.remove(layout)
    assert [path.name for path in outside.iterdir()] == ["daemon.json"]


def test_a_second_start_does_not_take_the_first_ones_files_for_the_machines(
    layout: Layout, outside: Path
) -> None:
    residue.remember(layout)
    engine_writes(outside)
    residue.remember(layout)
    residue.remove(layout)
    assert not outside.exists()


def test_control_groups_of_other_programs_stay(tmp_path: Path) -> None:
    for name in ("memory/octavo/a/b", "memory/docker/c", "octavo/d"):
        (tmp_path / name).mkdir(parents=True)
    residue._remove_cgroups(tmp_path)
    assert not (tmp_path / "memory/octavo").exists()
    assert not (tmp_path / "octavo").exists()
    assert (tmp_path / "memory/docker/c").is_dir()
