"""`python -m images.build [operator] [runtime] [--push [REGISTRY]]`: builds what changed.

Progress goes to stderr; stdout gets one line for each image, `octavo-runtime=REFERENCE`, that a
script can read. Unchanged inputs build nothing; a change of our code builds one small layer.
"""

import argparse
import os
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from host.errors import ToolError
from host.paths import cache_root
from host.progress import complain, say, step
from host.system import disk_use, exclusive, require_free_disk
from images import base, network, paths, registry
from images.context import write_context
from images.engine import Engine, EngineChoice, choose_engine
from images.inputs import ImageName, image_tag, inputs_of, source_id
from images.request import BuildRequest

DEFAULT_BASE = "docker.io/library/python:3.11-slim-bookworm"
KEPT_TAGS = 2
# Free disk at the peak of a first build, in 10^9 bytes (layers, their temporary copies, uv's cache),
# and of a later one, which may replace every layer.
_NEEDED_GIGABYTES = {ImageName.OPERATOR: 2.0, ImageName.RUNTIME: 14.0}
_NEEDED_AGAIN_GIGABYTES = {ImageName.OPERATOR: 1.0, ImageName.RUNTIME: 6.0}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; `push` is None for no push, empty for the cluster's."""

    images: tuple[ImageName, ...]
    push: str | None = None
    engine: EngineChoice = EngineChoice.AUTO
    base: str = ""
    torch_arguments: Mapping[str, str] = field(default_factory=dict)


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> Options:
    """Returns the options of a command line; argparse ends the program on a wrong one."""
    parser = argparse.ArgumentParser(prog=".venv/bin/python -m images.build", description=__doc__)
    names = [image.value for image in ImageName]
    parser.add_argument("images", nargs="*", metavar="{operator,runtime}", help="default: both")
    parser.add_argument(
        "--push",
        nargs="?",
        const="",
        metavar="REGISTRY",
        help=f"push to REGISTRY (default: the cluster's, {registry.CLUSTER_REGISTRY})",
    )
    parser.add_argument("--engine", type=EngineChoice, choices=list(EngineChoice), default="auto")
    parser.add_argument("--base", default="", help=f"base image (default: {DEFAULT_BASE})")
    parser.add_argument(
        "--cpu-torch-index",
        default=environ.get("OCTAVO_CPU_TORCH_INDEX", ""),
        metavar="URL",
        help="take torch from this index of CPU-only wheels (or set OCTAVO_CPU_TORCH_INDEX)",
    )
    parser.add_argument(
        "--cpu-torch-sha256", default="", metavar="HEX", help="hash that this wheel must have"
    )
    parsed = parser.parse_args(arguments)
    wrong = [name for name in parsed.images if name not in names]
    if wrong:
        parser.error(f"no such image: {', '.join(wrong)}; there are {' and '.join(names)}")
    if parsed.push in names:
        parser.error(f"--push takes a registry; put {parsed.push!r} before --push")
    torch_arguments = {}
    if parsed.cpu_torch_index:
        torch_arguments["TORCH_INDEX_URL"] = parsed.cpu_torch_index
    if parsed.cpu_torch_sha256:
        torch_arguments["TORCH_SHA256"] = parsed.cpu_torch_sha256
    return Options(
        images=tuple(ImageName(name) for name in dict.fromkeys(parsed.images or names)),
        push=parsed.push,
        engine=parsed.engine,
        base=parsed.base,
        torch_arguments=torch_arguments,
    )


def main() -> int:
    """Builds, pushes and prints the references; returns the exit status."""
    options = parse_options(sys.argv[1:], os.environ)
    try:
        with exclusive(paths.images_folder() / "lock"):
            references = build_and_push(options)
    except ToolError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        say("Interrupted; the next build cleans up and goes on from the finished layers.")
        return 130
    for image, reference in references.items():
        print(f"{image.repository}={reference}")
    return 0


def build_and_push(options: Options) -> dict[ImageName, str]:
    """Returns the references for pods of the images, which exist and are pushed if wanted."""
    target = None if options.push is None else registry.resolve(options.push)
    engine = choose_engine(options.engine)
    base_reference, base_id = ensure_base(engine, options.base)
    paths.images_folder().mkdir(parents=True, exist_ok=True)
    references = {}
    for image in options.images:
        arguments = dict(options.torch_arguments) if image is ImageName.RUNTIME else {}
        with tempfile.TemporaryDirectory(dir=paths.images_folder(), prefix="build-") as scratch:
            # The tag is the copy's: what changes meanwhile in the repository is the next build's.
            context = Path(scratch) / "context"
            write_context(paths.REPOSITORY_ROOT, image, context)
            tag = image_tag(context, image, base_id=base_id, arguments=arguments)
            local = f"{registry.CLUSTER_REGISTRY}/{image.repository}:{tag}"
            if engine.image_id(local) is None:
                _build(engine, image, context, local, arguments | {"BASE": base_reference})
                _forget_old(engine, image)
                _tell_disk_use(engine, local)
            else:
                say(f"{image.repository}: {tag} is built already")
        references[image] = local
        if target is not None:
            references[image] = f"{target}/{image.repository}:{tag}"
            _push(engine, target, references[image], local)
    return references


def ensure_base(engine: Engine, wanted: str) -> tuple[str, str]:
    """Returns the base's reference and content id: pulled where that works, made otherwise.

    Raises ToolError when a base that the user named is not to be had.
    """
    made = base.base_reference()
    found = None if wanted else engine.image_id(made)
    if found is not None:
        return made, found
    reference = wanted or DEFAULT_BASE
    found = engine.image_id(reference)
    if found is None:
        with step(f"Base: {reference}"):
            found = engine.image_id(reference) if engine.pull(reference) else None
    if found is not None:
        return reference, found
    if wanted:
        raise ToolError(f"--base {wanted} can't be pulled and is not in the engine's store")
    say(f"{reference} can't be pulled here")
    tar = base.ensure_base_tar()
    with step("Base: import", is_live=False):
        engine.import_root(tar, made)
    found = engine.image_id(made)
    if found is None:
        raise ToolError(f"{made} was imported from {tar}, but the engine does not show it")
    return made, found


def needed_gigabytes(image: ImageName, *, is_known: bool = False) -> float:
    """Returns the free disk in 10^9 bytes that a build takes at its peak; less where one is here."""
    return (_NEEDED_AGAIN_GIGABYTES if is_known else _NEEDED_GIGABYTES)[image]


def _build(
    engine: Engine, image: ImageName, context: Path, reference: str, arguments: Mapping[str, str]
) -> None:
    is_known = bool(engine.tags(reference.rpartition(":")[0]))
    needed = needed_gigabytes(image, is_known=is_known)
    require_free_disk(paths.images_folder(), needed, f"building {image.repository}")
    secrets = network.write_secrets(context.parent, extra=engine.run_environment)
    request = BuildRequest(
        context=context,
        containerfile=context / inputs_of(image).containerfile,
        reference=reference,
        arguments={
            **arguments,
            "SOURCE_ID": source_id(context, image),
            "VERSION": _version(context),
        },
        secrets=secrets.by_id(),
        kept_stages=("tools",),
    )
    with step(f"{image.repository}: build", is_live=False):
        engine.build(request)


def _push(engine: Engine, target: str, reference: str, local: str) -> None:
    repository, _, tag = reference.removeprefix(f"{target}/").partition(":")
    if registry.has_image(target, repository, tag):
        say(f"{repository}: {target} has {tag} already")
        return
    with step(f"{repository}: push to {target}", is_live=False):
        engine.push(local, reference)


def _forget_old(engine: Engine, image: ImageName) -> None:
    for reference in engine.tags(f"{registry.CLUSTER_REGISTRY}/{image.repository}")[KEPT_TAGS:]:
        engine.remove(reference)
    engine.prune()


def _tell_disk_use(engine: Engine, reference: str) -> None:
    say(f"{reference}: {engine.size(reference) / 1e6:,.0f} MB unpacked")
    used = disk_use(paths.images_folder()) + disk_use(paths.base_folder())
    say(f"Base and image store under {cache_root()}: {used / 1e9:.1f} GB")


def _version(root: Path) -> str:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return str(project["version"])


if __name__ == "__main__":
    sys.exit(main())
