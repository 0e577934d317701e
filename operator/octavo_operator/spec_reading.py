"""Spec reading. The spec of a live object, or why the operator cannot act on it. Pure."""

from __future__ import annotations

from pydantic import ValidationError

from octavo_operator.api.conditions import Reason
from octavo_operator.api.v1alpha1 import LLMDeploymentSpec
from octavo_operator.findings import Finding
from octavo_operator.manifest import Manifest
from octavo_operator.render import Installation
from octavo_operator.render.runtime_image import why_not_allowed


def spec_of(resource: Manifest, installation: Installation) -> LLMDeploymentSpec | Finding:
    """The spec, or why the operator cannot act on it."""
    try:
        spec = LLMDeploymentSpec.model_validate(resource["spec"])
    except ValidationError as error:
        return Finding(Reason.INVALID_SPEC, _field_messages(error))
    allowed = installation.allowed_runtime_images
    if why := why_not_allowed(installation.runtime_image, allowed, spec.runtime):
        return Finding(Reason.IMAGE_NOT_ALLOWED, why)
    return spec


def _field_messages(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False, include_context=False):
        path = ".".join(["spec", *(str(part) for part in problem["loc"])])
        parts.append(f"{path}: {problem['msg']} (value: {str(problem['input'])[:100]!r})")
    return "; ".join(parts)
