"""Request. One image build, in terms that every engine understands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# A base image is some 50 MB: what takes longer has no way to its registry.
PULL_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build: `context` is the build's root folder, `reference` the name of the result.

    `secrets` are files by id. `kept_stages` are the stages whose result is worth keeping though no
    image descends from it; an engine with a build cache of its own needs no such list.
    """

    context: Path
    containerfile: Path
    reference: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    kept_stages: tuple[str, ...] = ()
