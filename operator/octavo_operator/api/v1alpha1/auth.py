"""Authentication. `spec.auth`: who may use the OpenAI port."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from octavo_operator.api.v1alpha1.base import ApiModel, cel_between, rules
from octavo_operator.api.v1alpha1.source import SecretReference

_FILE_NAME = r"^\.?[A-Za-z0-9_-][A-Za-z0-9._-]*$"
"""As Kubernetes has it: neither `.` nor what begins with `..`, as keys become files."""
_ONE_HELP = "must have either secretRef or keysFrom"


class AuthSecretReference(SecretReference):
    """A key of a Secret in the namespace of the LLMDeployment."""

    key: Annotated[str, Field(min_length=1, max_length=253, pattern=_FILE_NAME)] = Field(
        default="api-key", description="Key in the Secret that holds the API keys."
    )


class AuthKeysFrom(ApiModel):
    """A whole Secret of API keys."""

    secret_ref: SecretReference = Field(
        description="Secret of which every value holds API keys, each named after its key."
    )


class AuthSpec(ApiModel):
    """Who may use the OpenAI port."""

    model_config = ConfigDict(
        json_schema_extra=rules(cel_between("has(self.secretRef) != has(self.keysFrom)", _ONE_HELP))
    )

    secret_ref: AuthSecretReference | None = Field(
        default=None,
        description="One value of a Secret: the API key that requests must bring as a bearer token, or "
        "several, separated by white space, of which any will do.",
    )
    keys_from: AuthKeysFrom | None = Field(
        default=None, description="All values of a Secret instead of one."
    )

    @model_validator(mode="after")
    def _one(self) -> AuthSpec:
        if (self.secret_ref is None) == (self.keys_from is None):
            raise ValueError(_ONE_HELP)
        return self
