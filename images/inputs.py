"""Inputs. What an image is made of, and the tag that follows from it.

The tag is a hash of every input, so equal inputs have one name everywhere: an image that exists is
never built again, and a pod that runs a tag runs exactly these sources.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

TAG_LENGTH = 16


class ImageName(StrEnum):
    """The images of this project; the value is the folder and the command-line word."""

    OPERATOR = "operator"
    RUNTIME = "runtime"

    @property
    def repository(self) -> str:
        """The name under which registries know the image."""
        return f"octavo-{self.value}"


@dataclass(frozen=True, slots=True)
class ImageInputs:
    """The files and arguments that decide an image's content; paths relative to the repository."""

    containerfile: Path
    files: tuple[Path, ...]
    sources: Path


_INPUTS = {
    ImageName.OPERATOR: ImageInputs(
        containerfile=Path("images/operator/Containerfile"),
        files=(
            Path("images/tools.txt"),
            Path("locks/operator.txt"),
            Path("pyproject.toml"),
            Path("LICENSE"),
        ),
        sources=Path("operator"),
    ),
    ImageName.RUNTIME: ImageInputs(
        containerfile=Path("images/runtime/Containerfile"),
        files=(
            Path("images/tools.txt"),
            Path("images/runtime/split_lock.py"),
            Path("locks/runtime.txt"),
            Path("pyproject.toml"),
            Path("LICENSE"),
        ),
        sources=Path("runtime"),
    ),
}


def inputs_of(image: ImageName) -> ImageInputs:
    """Returns the inputs of an image."""
    return _INPUTS[image]


def source_files(root: Path, folder: Path) -> list[Path]:
    """Returns the files of `root/folder` that a build sees, sorted, relative to `root`."""
    return sorted(
        path.relative_to(root)
        for path in (root / folder).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.suffix not in {".pyc", ".pyo", ".pyd"}
    )


def digest_files(root: Path, files: Iterable[Path]) -> str:
    """Returns the SHA-256 (hex) over the names and contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{path.as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def source_id(root: Path, image: ImageName) -> str:
    """Returns the hash (hex) of what goes into the image's top layer: the project's own wheel."""
    inputs = inputs_of(image)
    metadata = [path for path in inputs.files if path.parent == Path()]
    return digest_files(root, [*metadata, *source_files(root, inputs.sources)])


def image_tag(root: Path, image: ImageName, *, base_id: str, arguments: Mapping[str, str]) -> str:
    """Returns the tag of the image that these inputs make.

    `base_id` is the content id of the base image; `arguments` are the build arguments that change
    the result. Raises FileNotFoundError when an input is missing.
    """
    inputs = inputs_of(image)
    digest = hashlib.sha256()
    digest.update(f"base {base_id}\n".encode())
    for name, value in sorted(arguments.items()):
        digest.update(f"argument {name}={value}\n".encode())
    files = [inputs.containerfile, *inputs.files, *source_files(root, inputs.sources)]
    digest.update(digest_files(root, files).encode())
    return digest.hexdigest()[:TAG_LENGTH]
