"""What both Containerfiles promise: layer order, no torch in the operator, a safe way to run."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from images.inputs import ImageName, inputs_of
from images.paths import REPOSITORY_ROOT
from images.runtime.split_lock import requirement_blocks


def instructions(image: ImageName) -> list[str]:
    """The instructions of a Containerfile, one string each, comments and line breaks folded."""
    text = (REPOSITORY_ROOT / inputs_of(image).containerfile).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line for line in joined.splitlines() if line.strip()]


def last_stage(image: ImageName) -> list[str]:
    lines = instructions(image)
    start = max(index for index, line in enumerate(lines) if line.startswith("FROM "))
    return lines[start:]


def position(lines: list[str], text: str) -> int:
    return next(index for index, line in enumerate(lines) if text in line)


def test_layers_go_from_the_slow_to_the_quick() -> None:
    stage = last_stage(ImageName.RUNTIME)
    order = [
        position(stage, "apt-get install"),
        position(stage, "-r /usr/share/octavo/torch.txt"),
        position(stage, "-r /usr/share/octavo/dependencies.txt"),
        position(stage, "COPY --from=octavo"),
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("image", list(ImageName))
def test_only_kernels_and_what_is_no_layer_follow_the_projects_own_layer(image: ImageName) -> None:
    stage = last_stage(image)
    after = stage[position(stage, "COPY --from=octavo") + 1 :]
    others = {
        line.split()[0] for line in after if "octavo.kernels.cpu.compiling.compile" not in line
    }
    assert others <= {"ARG", "LABEL", "WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("image", list(ImageName))
def test_our_sources_enter_the_last_layer_alone(image: ImageName) -> None:
    copies = [line for line in instructions(image) if line.startswith("COPY ")]
    sources = [line for line in copies if f" /src/{image}" in line]
    assert len(sources) == 1
    assert not any(f"COPY {image} " in line for line in last_stage(image))


@pytest.mark.parametrize("image", list(ImageName))
def test_every_file_that_is_copied_decides_the_tag(image: ImageName) -> None:
    inputs = inputs_of(image)
    known = {path.as_posix() for path in (*inputs.files, inputs.sources)}
    copied = {
        source
        for line in instructions(image)
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    }
    assert copied == known


@pytest.mark.parametrize("image", list(ImageName))
def test_the_build_context_holds_what_is_copied(image: ImageName) -> None:
    inputs = inputs_of(image)
    containerfile = REPOSITORY_ROOT / inputs.containerfile
    ignored = containerfile.with_name("Containerfile.dockerignore").read_text().splitlines()
    wanted = {path.as_posix() for path in (*inputs.files, inputs.sources)}
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == wanted


@pytest.mark.parametrize("image", list(ImageName))
def test_it_runs_without_root_and_without_a_shell(image: ImageName) -> None:
    stage = last_stage(image)
    user = stage[position(stage, "USER ")].split()[1]
    assert all(int(part) > 0 for part in user.split(":"))
    entrypoint = json.loads(stage[position(stage, "ENTRYPOINT ")].removeprefix("ENTRYPOINT "))
    script = "octavo-operator" if image is ImageName.OPERATOR else "octavo"
    assert entrypoint == [f"/opt/octavo/bin/{script}"]
    assert "ENV PATH=/opt/octavo/bin:" in stage[position(stage, "ENV ")]


@pytest.mark.parametrize("image", list(ImageName))
def test_everything_from_outside_is_installed_by_hash(image: ImageName) -> None:
    for line in instructions(image):
        for command in re.findall(r"pip install.*?(?:;|&&|$)", line):
            assert "--require-hashes" in command or "$index" in command or "--offline" in command


def test_without_a_cpu_index_torch_is_installed_by_hash() -> None:
    stage = last_stage(ImageName.RUNTIME)
    torch = stage[position(stage, "-r /usr/share/octavo/torch.txt")]
    assert re.search(r"else index=--require-hashes;", torch)


def test_the_operators_lock_holds_no_model_code() -> None:
    lock = (REPOSITORY_ROOT / "locks/operator.txt").read_text()
    locked = {name for name, _ in requirement_blocks(lock)}
    assert "kopf" in locked
    assert not {n for n in locked if re.match(r"torch|triton|nvidia|transformers|numpy", n)}


def test_builds_use_the_versions_that_development_uses() -> None:
    """`make lock` resolves both: a forgotten one would build images with another uv."""

    def pins(lock: str) -> dict[str, str]:
        blocks = requirement_blocks((REPOSITORY_ROOT / lock).read_text())
        return {name: text.split()[0].partition("==")[2] for name, text in blocks}

    development = pins("locks/dev.txt")
    shared = {
        name: version for name, version in pins("images/tools.txt").items() if name in development
    }
    assert "uv" in shared
    assert shared == {name: development[name] for name in shared}


def test_sources_of_the_cpu_s_kernels_get_whole_seconds_at_any_depth(tmp_path: Path) -> None:
    """numba compares a source's time, and an image's archive keeps no part of a second."""
    cpu = tmp_path / "octavo" / "kernels" / "cpu"
    files = [cpu / "norm.py", cpu / "attention" / "decode.py"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        os.utime(file, ns=(1_700_000_000_500_000_000,) * 2)
    stage = last_stage(ImageName.RUNTIME)
    line = stage[position(stage, "octavo.kernels.cpu.compiling.compile")]
    (command,) = re.findall(r'find "\$folder".*?\{\} \+;', line)
    environment = os.environ | {"folder": str(tmp_path)}
    subprocess.run(["sh", "-ec", command], env=environment, check=True)
    assert {file.stat().st_mtime_ns for file in files} == {1_700_000_000_000_000_000}
