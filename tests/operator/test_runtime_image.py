"""Which image a model may run, and what stays when it may not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from octavo_operator.api.v1alpha1 import RuntimeSpec
from octavo_operator.render.runtime_image import repository, runtime_image, why_not_allowed

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("ghcr.io/octavo-dev/octavo-runtime:1", "ghcr.io/octavo-dev/octavo-runtime"),
        (f"ghcr.io/o/r:1@{DIGEST}", "ghcr.io/o/r"),
        (f"ghcr.io/o/r@{DIGEST}", "ghcr.io/o/r"),
        ("localhost:5001/octavo-runtime", "localhost:5001/octavo-runtime"),
        ("localhost:5001/octavo-runtime:abc", "localhost:5001/octavo-runtime"),
        ("octavo:1", "octavo"),
    ],
)
def test_a_reference_s_repository_has_neither_tag_nor_digest(image: str, name: str) -> None:
    assert repository(image) == name


@pytest.mark.parametrize(
    ("wanted", "image"),
    [
        ({}, "localhost:5001/r:1"),
        ({"version": "2.0.1"}, "localhost:5001/r:2.0.1"),
        ({"version": DIGEST}, f"localhost:5001/r@{DIGEST}"),
        ({"image": "ghcr.io/o/r:3"}, "ghcr.io/o/r:3"),
    ],
)
def test_a_version_is_one_of_the_installation_s_repository(
    wanted: dict[str, str], image: str
) -> None:
    assert runtime_image("localhost:5001/r:1", RuntimeSpec(**wanted)) == image


@pytest.mark.parametrize(
    ("allowed", "image", "is_allowed"),
    [
        ((), "ghcr.io/octavo/runtime:9", True),
        ((), "ghcr.io/octavo/runtime-2:9", False),
        ((), "ghcr.io/octavo/runtime/below:9", False),
        (("ghcr.io/team/r",), "ghcr.io/team/r:1", True),
        (("ghcr.io/team/r",), f"ghcr.io/team/r@{DIGEST}", True),
        (("ghcr.io/team/r",), "ghcr.io/team/r-evil:1", False),
        (("ghcr.io/team/r",), "ghcr.io/team/r/x:1", False),
        (("ghcr.io/team/",), "ghcr.io/team/r/x:1", True),
        (("ghcr.io/team/",), "ghcr.io/team-evil/x:1", False),
        (("ghcr.io/",), "ghcr.io.evil/x:1", False),
        (("a/b", "ghcr.io/team/r"), "ghcr.io/team/r:1", True),
    ],
)
def test_an_image_is_of_a_repository_that_the_installation_allows(
    allowed: tuple[str, ...], image: str, is_allowed: bool
) -> None:
    why = why_not_allowed("ghcr.io/octavo/runtime:1", allowed, RuntimeSpec(image=image))
    assert (why is None) is is_allowed
    assert why is None or repository(image) in why


@pytest.mark.parametrize(
    "wanted",
    [
        {"version": "1", "image": "ghcr.io/o/r:1"},
        {"version": "a/b"},
        {"version": "1@sha256:0"},
        {"version": "-1"},
        {"image": "ghcr.io/o/r"},
        {"image": "r:1"},
        {"image": "ghcr.io/../r:1"},
        {"image": "ghcr.io//r:1"},
        {"image": "https://ghcr.io/o/r:1"},
        {"image": "ghcr.io/o/r:1 --privileged"},
        {"image": "user:secret@ghcr.io/o/r:1"},
    ],
)
def test_what_is_no_pinned_image_is_refused(wanted: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RuntimeSpec(**wanted)
