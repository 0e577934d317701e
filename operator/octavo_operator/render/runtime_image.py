"""Runtime image of the pods: the installation's, a version of it, or one of a repository that it allows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from octavo_operator.api.v1alpha1 import RuntimeSpec


def runtime_image(installed: str, wanted: RuntimeSpec) -> str:
    """The reference that the pods run."""
    if wanted.image is not None:
        return wanted.image
    if wanted.version is None:
        return installed
    separator = "@" if wanted.version.startswith("sha256:") else ":"
    return f"{repository(installed)}{separator}{wanted.version}"


def why_not_allowed(installed: str, allowed: Iterable[str], wanted: RuntimeSpec) -> str | None:
    """Why the installation does not let these pods run; None when it does.

    Args:
        allowed: Repositories; one that ends with a slash stands for all below it.
    """
    if wanted.image is None:
        return None
    asked = repository(wanted.image)
    if asked == repository(installed) or any(_covers(each, asked) for each in allowed):
        return None
    return (
        f"spec.runtime.image: the installation does not allow {asked}; whoever installed the operator can "
        "add it to runtime.allowedImages, and spec.runtime.version takes a tag of "
        f"{repository(installed)}"
    )


def repository(image: str) -> str:
    """The reference without tag and digest; a port is not a tag."""
    return re.sub(r":[^:/]*$", "", image.partition("@")[0])


def _covers(allowed: str, asked: str) -> bool:
    return asked.startswith(allowed) if allowed.endswith("/") else asked == allowed
