"""Runtime image. `spec.runtime`: another image than the installation's, to stay on a version or try one."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from octavo_operator.api.v1alpha1.base import ApiModel, cel_between, rules

_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REGISTRY = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?"
_PATH = r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"
_VERSION = rf"^({_TAG}|{_DIGEST})$"
# Without a tag or a digest it would be `latest`, another one from pod to pod.
_IMAGE = rf"^{_REGISTRY}{_PATH}(:{_TAG}|:{_TAG}@{_DIGEST}|@{_DIGEST})$"
_ONE_HELP = "must not have both version and image"


class RuntimeSpec(ApiModel):
    """The image that the pods run; the installation's when empty, and a new one with its upgrade."""

    model_config = ConfigDict(
        json_schema_extra=rules(cel_between("!has(self.version) || !has(self.image)", _ONE_HELP))
    )

    version: Annotated[str, Field(max_length=128, pattern=_VERSION)] | None = Field(
        default=None,
        description="Tag or digest (sha256:…) of the installation's runtime image. The pods stay on it "
        "when the operator is upgraded.",
    )
    image: Annotated[str, Field(max_length=512, pattern=_IMAGE)] | None = Field(
        default=None,
        description="Another image, as registry/repository:tag or …@sha256:…, from a repository that the "
        "installation allows (`runtime.allowedImages`).",
    )

    @model_validator(mode="after")
    def _at_most_one(self) -> RuntimeSpec:
        if self.version is not None and self.image is not None:
            raise ValueError(_ONE_HELP)
        return self
