"""The runtime's lock splits into torch's layer and the rest, and nothing gets lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from images.paths import REPOSITORY_ROOT
from images.runtime.split_lock import cpu_torch_requirement, requirement_blocks, split_lock

LOCK = """\
# made by a tool
numpy==2.4.6 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
nvidia-cublas==13.4.1 ; sys_platform == 'linux' \\
    --hash=sha256:ba
torch==2.15.0 \\
    --hash=sha256:ca \\
    --hash=sha256:cb
torchmetrics==1.0 \\
    --hash=sha256:da
triton==3.9.0 \\
    --hash=sha256:ea
"""


def names(text: str) -> list[str]:
    return [name for name, _ in requirement_blocks(text)]


def test_torch_and_its_libraries_go_apart_with_their_hashes() -> None:
    torch_part, dependencies = split_lock(LOCK)
    assert names(torch_part) == ["nvidia-cublas", "torch", "triton"]
    assert names(dependencies) == ["numpy", "torchmetrics"]
    assert "torch==2.15.0 \\\n    --hash=sha256:ca \\\n    --hash=sha256:cb\n" in torch_part


def test_both_parts_together_are_the_projects_whole_lock() -> None:
    lock = (REPOSITORY_ROOT / "locks/runtime.txt").read_text()
    torch_part, dependencies = split_lock(lock)
    assert sorted(names(torch_part) + names(dependencies)) == sorted(names(lock))
    assert torch_part.count("--hash") + dependencies.count("--hash") == lock.count("--hash")
    assert "torch" in names(torch_part)
    assert "transformers" in names(dependencies)


def test_cpu_torch_is_the_same_version_with_the_given_hash_or_none() -> None:
    assert cpu_torch_requirement(LOCK) == "torch==2.15.0\n"
    assert cpu_torch_requirement(LOCK, "ff") == "torch==2.15.0 --hash=sha256:ff\n"


def test_a_lock_without_torch_is_an_error() -> None:
    with pytest.raises(ValueError, match="pins no torch"):
        cpu_torch_requirement("numpy==2.4.6\n")


@pytest.mark.parametrize("line", ["numpy>=2", "-e .", "git+https://example.com/x.git"])
def test_an_unpinned_line_is_an_error_that_shows_it(line: str) -> None:
    with pytest.raises(ValueError, match="not a pinned requirement"):
        split_lock(LOCK + line + "\n")


def test_the_script_writes_files_whose_time_never_changes(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    script = REPOSITORY_ROOT / "images/runtime/split_lock.py"
    command = [sys.executable, "-I", str(script), str(lock), str(tmp_path / "out"), "--cpu-torch"]
    subprocess.run(command, check=True)
    torch_file, dependencies = tmp_path / "out/torch.txt", tmp_path / "out/dependencies.txt"
    assert torch_file.read_text() == "torch==2.15.0\n"
    assert names(dependencies.read_text()) == ["numpy", "torchmetrics"]
    assert torch_file.stat().st_mtime == dependencies.stat().st_mtime == 0
