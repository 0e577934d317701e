"""The tag follows from every input of an image, and from nothing else."""

from pathlib import Path

import pytest

from images.inputs import ImageName, image_tag, inputs_of, source_id

BASE = "sha256:0001"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with each input file of both images and one source file a half."""
    for image in ImageName:
        inputs = inputs_of(image)
        for path in (inputs.containerfile, *inputs.files, inputs.sources / "package/module.py"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(f"content of {path}\n")
    return tmp_path


def tag(root: Path, image: ImageName, base_id: str = BASE, **arguments: str) -> str:
    return image_tag(root, image, base_id=base_id, arguments=arguments)


@pytest.mark.parametrize("image", list(ImageName))
def test_every_input_file_decides_the_tag(repository: Path, image: ImageName) -> None:
    inputs = inputs_of(image)
    seen = {tag(repository, image)}
    for path in (inputs.containerfile, *inputs.files, inputs.sources / "package/module.py"):
        (repository / path).write_text("changed\n")
        seen.add(tag(repository, image))
    assert len(seen) == len(inputs.files) + 3


@pytest.mark.parametrize("image", list(ImageName))
def test_base_and_arguments_decide_the_tag(repository: Path, image: ImageName) -> None:
    tags = {
        tag(repository, image),
        tag(repository, image, base_id="sha256:0002"),
        tag(repository, image, TORCH_INDEX_URL="https://one.example"),
        tag(repository, image, TORCH_INDEX_URL="https://two.example"),
    }
    assert len(tags) == 4


def test_renaming_or_adding_a_source_file_decides_the_tag(repository: Path) -> None:
    before = tag(repository, ImageName.RUNTIME)
    module = repository / "runtime/package/module.py"
    module.rename(module.with_name("renamed.py"))
    renamed = tag(repository, ImageName.RUNTIME)
    (repository / "runtime/package/data.safetensors").write_bytes(b"\0")
    assert len({before, renamed, tag(repository, ImageName.RUNTIME)}) == 3


def test_nothing_else_decides_the_tag(repository: Path) -> None:
    before = {image: tag(repository, image) for image in ImageName}
    (repository / "README.md").write_text("words\n")
    cache = repository / "runtime/package/__pycache__"
    cache.mkdir()
    (cache / "module.cpython-311.pyc").write_bytes(b"bytecode")
    module = repository / "runtime/package/module.py"
    content = module.read_text()
    module.unlink()
    module.write_text(content)  # another mtime and inode, the same content
    module.chmod(0o600)
    assert {image: tag(repository, image) for image in ImageName} == before


def test_one_half_leaves_the_other_halfs_tag_alone(repository: Path) -> None:
    operator = tag(repository, ImageName.OPERATOR)
    (repository / "runtime/package/module.py").write_text("changed\n")
    (repository / "locks/runtime.txt").write_text("changed\n")
    assert tag(repository, ImageName.OPERATOR) == operator


def test_the_source_id_moves_with_the_sources_and_not_with_the_lock(repository: Path) -> None:
    before = source_id(repository, ImageName.RUNTIME)
    (repository / "locks/runtime.txt").write_text("changed\n")
    assert source_id(repository, ImageName.RUNTIME) == before
    (repository / "runtime/package/module.py").write_text("changed\n")
    assert source_id(repository, ImageName.RUNTIME) != before


def test_a_missing_input_is_named(repository: Path) -> None:
    (repository / "locks/operator.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"locks/operator\.txt"):
        tag(repository, ImageName.OPERATOR)
