"""Build's context: the inputs that the tag covers, and nothing else, in one normal form.

buildah's layer cache compares times and modes beside contents. Two clones of one commit differ in
both, and would make torch's layer anew, so every file gets the same time and one of two modes.
"""

import os
import shutil
from pathlib import Path

from images.inputs import ImageName, inputs_of, source_files

# 1980-01-01, the earliest time that a wheel (a zip) can hold.
_TIME = 315532800


def write_context(root: Path, image: ImageName, folder: Path) -> None:
    """Writes the image's inputs below `folder`, which must not exist, as they lie below `root`."""
    inputs = inputs_of(image)
    files = [inputs.containerfile, *inputs.files, *source_files(root, inputs.sources)]
    folder.mkdir(parents=True)
    for path in files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, target)
        target.chmod(0o755 if os.access(root / path, os.X_OK) else 0o644)
    for path in [*folder.rglob("*"), folder]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (_TIME, _TIME))
