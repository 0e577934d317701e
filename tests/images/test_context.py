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


@pytest.mark.parametrize("image", list(ImageName))
def test_the_context_is_the_same_from_every_clone(tmp_path: Path, image: ImageName) -> None:
    inputs = inputs_of(image)
    clone = tmp_path / "clone"
    for path in (inputs.containerfile, *inputs.files):
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY_ROOT / path, clone / path)
        (clone / path).chmod(0o600)
    shutil.copytree(REPOSITORY_ROOT / inputs.sources, clone / inputs.sources)
    write_context(REPOSITORY_ROOT, image, tmp_path / "first")
    write_context(clone, image, tmp_path / "second")
    assert headers(tmp_path / "first") == headers(tmp_path / "second")


def test_only_inputs_are_in_it(tmp_path: Path) -> None:
    write_context(REPOSITORY_ROOT, ImageName.OPERATOR, tmp_path / "context")
    found = {
        path.relative_to(tmp_path / "context").parts[0]
        for path in (tmp_path / "context").rglob("*")
    }
    assert found == {"images", "locks", "operator", "pyproject.toml", "LICENSE"}
    assert not list((tmp_path / "context").rglob("__pycache__"))
