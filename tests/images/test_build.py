"""The builder's decisions, with an engine that remembers instead of building."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from host.errors import ToolError
from images import base, build, registry
from images.build import (
    DEFAULT_BASE,
    Options,
    build_and_push,
    ensure_base,
    needed_gigabytes,
    parse_options,
)
from images.engine import EngineChoice
from images.inputs import ImageName
from images.request import BuildRequest


class MemoryEngine:
    """A store of `reference → id`, newest last; `pullable` is what registries would give."""

    name = "memory"
    run_environment: Mapping[str, str] = {}

    def __init__(self, *present: str, pullable: tuple[str, ...] = ()) -> None:
        self.store = {reference: f"id of {reference}" for reference in present}
        self.pullable = pullable
        self.built: list[BuildRequest] = []
        self.secret_seen = ""
        self.pushed: list[tuple[str, str]] = []

    def prepare(self) -> None:
        pass

    def image_id(self, reference: str) -> str | None:
        return self.store.get(reference)

    def pull(self, reference: str) -> bool:
        if reference in self.pullable:
            self.store[reference] = f"id of {reference}"
        return reference in self.pullable

    def import_root(self, tar: Path, reference: str) -> None:
        self.store[reference] = f"id of {tar.read_text()}"

    def build(self, request: BuildRequest) -> None:
        self.built.append(request)
        self.secret_seen = request.secrets["build-env"].read_text()
        self.store[request.reference] = "built"

    def tags(self, repository: str) -> list[str]:
        return [r for r in reversed(self.store) if r.rpartition(":")[0] == repository]

    def remove(self, reference: str) -> None:
        del self.store[reference]

    def prune(self) -> None:
        pass

    def size(self, reference: str) -> int:
        return len(self.store[reference])

    def push(self, reference: str, destination: str) -> None:
        self.pushed.append((reference, destination))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryEngine:
    """An engine that can pull the default base; caches go to a folder of the test."""
    monkeypatch.setenv("OCTAVO_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "needed_gigabytes", lambda _image, *, is_known: 0.0)
    made = MemoryEngine(pullable=(DEFAULT_BASE,))
    monkeypatch.setattr(build, "choose_engine", lambda choice: made)
    return made


def options(*arguments: str, **environ: str) -> Options:
    return parse_options(arguments, environ)


def test_both_images_are_built_without_arguments() -> None:
    assert options().images == (ImageName.OPERATOR, ImageName.RUNTIME)
    assert options().push is None
    assert options().engine is EngineChoice.AUTO


def test_push_without_a_registry_means_the_clusters() -> None:
    assert options("operator", "runtime", "--push").push == ""
    assert options("--push", "ghcr.example/octavo").push == "ghcr.example/octavo"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kernel"], "no such image: kernel"),
        (["--push", "runtime"], "put 'runtime' before --push"),
        (["--engine", "podman"], "podman"),
    ],
)
def test_a_wrong_command_line_is_told(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options(*arguments)
    assert said in capsys.readouterr().err


def test_the_cpu_index_comes_from_the_environment_too() -> None:
    given = options("runtime", OCTAVO_CPU_TORCH_INDEX="https://cpu.example")
    assert given.torch_arguments == {"TORCH_INDEX_URL": "https://cpu.example"}


def test_a_base_that_can_be_pulled_is_pulled(engine: MemoryEngine) -> None:
    assert ensure_base(engine, "") == (DEFAULT_BASE, f"id of {DEFAULT_BASE}")


def test_where_none_can_be_pulled_the_base_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tar = tmp_path / "base.tar"
    tar.write_text("a root file system")
    made = [0]

    def ensure_tar() -> Path:
        made[0] += 1
        return tar

    monkeypatch.setattr(base, "ensure_base_tar", ensure_tar)
    lonely = MemoryEngine()
    expected = (base.base_reference(), "id of a root file system")
    assert ensure_base(lonely, "") == expected
    assert ensure_base(lonely, "") == expected
    assert made == [1]


def test_a_named_base_is_never_replaced(engine: MemoryEngine) -> None:
    with pytest.raises(ToolError, match=r"--base mine\.example/base:1"):
        ensure_base(engine, "mine.example/base:1")


def test_what_exists_is_not_built_again(engine: MemoryEngine) -> None:
    first = build_and_push(options())
    assert build_and_push(options()) == first
    assert len(engine.built) == 2
    assert first[ImageName.RUNTIME].startswith("localhost:5001/octavo-runtime:")


def test_the_cpu_variant_is_another_image_and_leaves_the_operator(engine: MemoryEngine) -> None:
    default = build_and_push(options())
    cpu = build_and_push(options("--cpu-torch-index", "https://cpu.example"))
    assert cpu[ImageName.RUNTIME] != default[ImageName.RUNTIME]
    assert cpu[ImageName.OPERATOR] == default[ImageName.OPERATOR]
    assert engine.built[-1].arguments["TORCH_INDEX_URL"] == "https://cpu.example"


def test_the_two_newest_tags_stay(engine: MemoryEngine) -> None:
    repository = "localhost:5001/octavo-operator"
    engine.store |= {f"{repository}:{tag}": "old" for tag in ("first", "second", "third")}
    new = build_and_push(options("operator"))[ImageName.OPERATOR]
    assert engine.tags(repository) == [new, f"{repository}:third"]


def test_the_secrets_of_a_build_are_removed_even_when_it_fails(
    engine: MemoryEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:password@i.example")
    build_and_push(options("operator"))
    assert "password" in engine.secret_seen
    assert "password" not in str(engine.built[0].arguments)

    def fail(request: BuildRequest) -> None:
        raise ToolError("the build failed")

    monkeypatch.setattr(engine, "build", fail)
    with pytest.raises(ToolError):
        build_and_push(options("runtime"))
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "password" in p.read_text()]


def test_too_little_disk_stops_a_build_before_it_starts(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later build asks for less than the first; on the disk of all tests not a byte is free."""
    monkeypatch.setattr(build, "needed_gigabytes", needed_gigabytes)
    for asked in ("14 GB", "6 GB"):
        with pytest.raises(ToolError, match=f"{asked} free .* there are 0.0; .* OCTAVO_CACHE"):
            build_and_push(options("runtime"))
        engine.store["localhost:5001/octavo-runtime:older"] = "old"
    assert engine.built == []


def test_a_registry_that_the_user_names_gets_both_images(engine: MemoryEngine) -> None:
    references = build_and_push(options("--push", "ghcr.example/team"))
    tag = references[ImageName.OPERATOR].rpartition(":")[2]
    assert references[ImageName.OPERATOR] == f"ghcr.example/team/octavo-operator:{tag}"
    assert engine.pushed[0] == (
        f"localhost:5001/octavo-operator:{tag}",
        f"ghcr.example/team/octavo-operator:{tag}",
    )


def test_what_the_clusters_registry_has_is_not_pushed(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: set[str] = set()
    monkeypatch.setattr(registry, "resolve", lambda push: registry.CLUSTER_REGISTRY)
    monkeypatch.setattr(registry, "has_image", lambda where, name, tag: f"{name}:{tag}" in held)
    reference = build_and_push(options("operator", "--push"))[ImageName.OPERATOR]
    assert engine.pushed == [(reference, reference)]
    held.add(reference.partition("/")[2])
    build_and_push(options("operator", "--push"))
    assert len(engine.pushed) == 1
