"""The name that pods use follows from the local image's name."""

from __future__ import annotations

import pytest

from e2e.registry.local_images import pod_reference
from host.errors import ToolError


@pytest.mark.parametrize(
    ("local", "for_pods"),
    [
        ("octavo-runtime:abc", "localhost:5001/octavo-runtime:abc"),
        ("octavo-runtime", "localhost:5001/octavo-runtime:latest"),
        ("localhost/octavo-runtime:abc", "localhost:5001/octavo-runtime:abc"),
        ("localhost:5001/octavo-runtime:abc", "localhost:5001/octavo-runtime:abc"),
        ("docker.io/library/busybox:1", "localhost:5001/busybox:1"),
        ("ghcr.io/org/app:1", "localhost:5001/org/app:1"),
        ("org/app", "localhost:5001/org/app:latest"),
    ],
)
def test_the_registry_is_replaced_and_the_tag_kept(local: str, for_pods: str) -> None:
    assert pod_reference(local) == for_pods


@pytest.mark.parametrize("reference", ["App:1", "", "a b", "app@sha256:00", "--flag", "../x:1"])
def test_what_is_no_image_name_is_refused(reference: str) -> None:
    with pytest.raises(ToolError):
        pod_reference(reference)
