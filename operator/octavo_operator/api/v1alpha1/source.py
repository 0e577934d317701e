"""Sources. A model as a URI and the credentials of its download: the served model's, and that of what guesses
for it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from octavo_operator.api.v1alpha1.base import (
    DNS_SUBDOMAIN,
    ApiModel,
    ObjectName,
    cel,
    cel_between,
    rules,
)

# Each segment starts with a letter or digit, so that neither `..` nor a flag can be written.
_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_URI = re.compile(
    rf"^(hf://{_SEGMENT}/{_SEGMENT}(@[A-Za-z0-9][A-Za-z0-9._/-]*)?"
    rf"|s3://[a-z0-9][a-z0-9.-]*(/{_SEGMENT})+/?"
    rf"|pvc://{DNS_SUBDOMAIN}(/{_SEGMENT})*/?"
    r"|builtin://[a-z0-9][a-z0-9-]*)$"
)
_URI_HELP = (
    "must be hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path or builtin://name, "
    "without '..'"
)
BUILTIN = "builtin://demo"
_BUILTIN_HELP = f"must be {BUILTIN}: the runtime image holds no other model"


def _checked_uri(uri: str) -> str:
    if _URI.fullmatch(uri) is None or ".." in uri:
        raise ValueError(f"{uri!r} {_URI_HELP}")
    return uri


ModelUri = Annotated[
    str,
    AfterValidator(_checked_uri),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 512,
            **rules(
                cel(f"self.matches(r'{_URI.pattern}') && !self.contains('..')", _URI_HELP),
                # What was stored before this rule is unchanged, and so not asked again.
                cel(f"!self.startsWith('builtin://') || self == '{BUILTIN}'", _BUILTIN_HELP),
            ),
        }
    ),
]


class SecretReference(ApiModel):
    """A Secret in the namespace of the LLMDeployment."""

    name: ObjectName = Field(description="Name of a Secret in the same namespace.")


def is_downloaded(uri: str) -> str:
    """Says in CEL that a download precedes serving."""
    return f"({uri}.startsWith('hf://') || {uri}.startsWith('s3://'))"


def builtin(uri: str) -> str:
    """Says in CEL that the runtime image holds the model."""
    return f"{uri}.startsWith('builtin://')"


class ModelSource(ApiModel):
    """Where a model comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                f"!has(self.secretRef) || {is_downloaded('self.uri')}",
                "is for models that are downloaded: hf:// and s3://",
                "secretRef",
            )
        )
    )

    uri: ModelUri = Field(
        description="hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path (a claim in this "
        "namespace) or builtin://demo. Without a revision each pod takes what is there when it starts: name "
        "one to have the same in all."
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret whose keys are the environment of the download alone, such as HF_TOKEN "
        "or AWS_ACCESS_KEY_ID. The serving container does not see it.",
    )

    @property
    def scheme(self) -> Literal["hf", "s3", "pvc", "builtin"]:
        """The part of the URI before `://`."""
        scheme = self.uri.partition("://")[0]
        match scheme:
            case "hf" | "s3" | "pvc" | "builtin":
                return scheme
            case _:
                raise ValueError(f"uri: {self.uri!r} {_URI_HELP}")

    @property
    def is_downloaded(self) -> bool:
        """Whether a download precedes serving."""
        return self.scheme in ("hf", "s3")

    @property
    def may_move(self) -> bool:
        """Whether another model may lie under the same URI later: that of a hub names no commit, or it is in
        a bucket or a claim, which anybody may write over."""
        is_pinned = re.search("@[0-9a-f]{40}$", self.uri) is not None
        return self.scheme in ("s3", "pvc") or (self.scheme == "hf" and not is_pinned)

    @property
    def claim(self) -> str | None:
        """The claim that `pvc://claim/path` names."""
        return self._claim_and_path[0] if self.scheme == "pvc" else None

    @property
    def path(self) -> str:
        """The folder in that claim; empty for all of it."""
        return self._claim_and_path[2].rstrip("/")

    @property
    def _claim_and_path(self) -> tuple[str, str, str]:
        return self.uri.removeprefix("pvc://").partition("/")
