"""A build sees the tag's inputs alone, and two clones of one commit look the same to it."""

import shutil
from pathlib import Path

import pytest

from images.context import write_context
from images.inputs import ImageName, inputs_of
from images.paths import REPOSITORY_ROOT


def headers(folder: Path) -> dict[str, tuple[int, float]]:
    """Mode and time of every file and folder, as a layer's tar would hold them."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode, path.stat().st_mtime)
        for path in [folder, *folder.rglob("*")]
    }


def clone(origin: Path, image: ImageName, folder: Path, mode: int) -> Path:
    """A copy of an image's inputs with times of its own and files of the given mode."""
    inputs = inputs_of(image)
    shutil.copytree(origin / inputs.sources, folder / inputs.sources, copy_function=shutil.copyfile)
    for path in (inputs.containerfile, *inputs.files):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(origin / path, folder / path)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
    return folder


@pytest.mark.parametrize("image", list(ImageName))
def test_the_context_is_the_same_from_every_clone(tmp_path: Path, image: ImageName) -> None:
    first = clone(REPOSITORY_ROOT, image, tmp_path / "first", 0o644)
    second = clone(first, image, tmp_path / "second", 0o600)
    write_context(first, image, tmp_path / "context-1")
    write_context(second, image, tmp_path / "context-2")
    assert headers(tmp_path / "context-1") == headers(tmp_path / "context-2")


def test_only_inputs_are_in_it(tmp_path: Path) -> None:
    write_context(REPOSITORY_ROOT, ImageName.OPERATOR, tmp_path / "context")
    found = {
        path.relative_to(tmp_path / "context").parts[0]
        for path in (tmp_path / "context").rglob("*")
    }
    assert found == {"images", "locks", "operator", "pyproject.toml", "LICENSE"}
    assert not list((tmp_path / "context").rglob("__pycache__"))
