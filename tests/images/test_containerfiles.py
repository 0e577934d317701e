"""What both Containerfiles promise: layer order, no torch in the operator, a safe way to run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images.inputs import ImageName, inputs_of
from images.paths import REPOSITORY_ROOT
from images.runtime.split_lock import requirement_blocks
from tests.support.requirements import Requirement, needs_module


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
        position(stage, "octavo.kernels.cpu.compiling.compile"),
        position(stage, "COPY --from=octavo"),
    ]
    assert order == sorted(order)


@pytest.mark.parametrize("image", list(ImageName))
def test_only_what_is_no_layer_follows_the_projects_own_layer(image: ImageName) -> None:
    stage = last_stage(image)
    after = stage[position(stage, "COPY --from=octavo") + 1 :]
    others = {line.split()[0] for line in after}
    assert others <= {"ARG", "LABEL", "WORKDIR", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("image", list(ImageName))
def test_all_our_sources_enter_the_last_layer_alone(image: ImageName) -> None:
    copies = [line for line in instructions(image) if line.startswith("COPY ")]
    sources = [line for line in copies if f" /src/{image}" in line]
    assert len(sources) == 1
    assert not any(f"COPY {image} " in line for line in last_stage(image))


def copied_from_the_context(image: ImageName) -> dict[str, str]:
    """Where each path of the context goes, of those that COPY names."""
    return {
        source: line.split()[-1]
        for line in instructions(image)
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    }


@pytest.mark.parametrize("image", list(ImageName))
def test_every_file_that_is_copied_decides_the_tag(image: ImageName) -> None:
    inputs = inputs_of(image)
    known = {path.as_posix() for path in (*inputs.files, inputs.sources)}
    copied = {
        source
        for source in copied_from_the_context(image)
        if not source.startswith(f"{inputs.sources}/")
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


# Imports all modules of kernels, compiles one, and prints how often numba's cache had it.
_COMPILE_ONE = """
import importlib
from octavo.kernels.cpu.compiling import compile
modules = {name: importlib.import_module(f"octavo.kernels.cpu.{name}") for name in compile._MODULES}
kernel = modules["rms_norm"]._float32
(signature,) = (s for k, s in compile.jit._declared if k is kernel)
kernel.compile(compile.jit.normalize_signature(signature)[0])
print(sum(kernel.stats.cache_hits.values()))
"""


def run_in_shell(command: str, **environ: str) -> None:
    subprocess.run(["sh", "-ec", command], env=os.environ | environ, check=True)


def test_the_runtime_loads_what_was_compiled_of_its_kernels_sources_alone(tmp_path: Path) -> None:
    """As the Containerfile does it: the sources in a layer of their own, all of Octavo over it."""
    needs_module(Requirement.NUMBA)
    packages, sources = tmp_path / "site-packages", tmp_path / "sources"
    for source, target in copied_from_the_context(ImageName.RUNTIME).items():
        prefix = "/usr/share/octavo/kernels"
        if not target.startswith(prefix):
            continue
        place = Path(f"{sources}{target.removeprefix(prefix)}")
        for path in REPOSITORY_ROOT.glob(source):
            if path.is_dir():
                shutil.copytree(path, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place / path.name)
    packages.mkdir()
    shutil.copytree(sources / "octavo", packages / "octavo")
    touches = [
        command
        for line in instructions(ImageName.RUNTIME)
        for command in re.findall(r'find "\$folder"/octavo -exec touch .*?\{\} \+', line)
    ]
    assert len(touches) == 2
    environ = {"PYTHONPATH": str(packages), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def cache_hits() -> str:
        command = [sys.executable, "-c", _COMPILE_ONE]
        return subprocess.check_output(command, env=os.environ | environ, text=True).strip()

    run_in_shell(touches[1], folder=str(packages))
    assert cache_hits() == "0"
    shutil.rmtree(packages / "octavo")
    shutil.copytree(REPOSITORY_ROOT / "runtime/octavo", packages / "octavo")
    run_in_shell(touches[0], folder=str(packages))
    assert cache_hits() == "1"
