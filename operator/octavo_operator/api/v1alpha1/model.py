"""Model source. `spec.model`: which model, under which names, and how it is fetched and kept."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from octavo_operator.api.quantity import MemoryQuantity
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
_SERVED_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"


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


class AccessMode(StrEnum):
    """How many nodes may mount the model cache."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class CacheSpec(ApiModel):
    """A volume that keeps the downloaded model for all replicas and later pods."""

    size: MemoryQuantity = Field(
        description="Size of the volume, such as 50Gi. A volume grows where its class allows that and "
        "never shrinks; what the cluster refuses is said in the status."
    )
    storage_class_name: ObjectName | None = Field(
        default=None,
        description="StorageClass; the cluster's default when absent. A volume that is there keeps its own.",
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="ReadWriteMany lets replicas run on many nodes; with ReadWriteOnce all replicas "
        "are placed on one node. A volume that is there keeps its own.",
    )


class ModelSpec(ApiModel):
    """Which model, under which names, and how it is fetched."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel_between(
                "!has(self.cache) || self.uri.startsWith('hf://') || self.uri.startsWith('s3://')",
                "is for models that are downloaded: hf:// and s3://",
                "cache",
            ),
            cel_between(
                "!has(self.secretRef) || self.uri.startsWith('hf://') "
                "|| self.uri.startsWith('s3://')",
                "is for models that are downloaded: hf:// and s3://",
                "secretRef",
            ),
        )
    )

    uri: ModelUri = Field(
        description="hf://org/name[@revision], s3://bucket/prefix, pvc://claim/path (a claim in this "
        "namespace) or builtin://demo."
    )
    served_names: (
        Annotated[
            tuple[Annotated[str, Field(min_length=1, max_length=128, pattern=_SERVED_NAME)], ...],
            Field(min_length=1, max_length=8),
        ]
        | None
    ) = Field(
        default=None,
        description="Names that requests may use as `model`; metadata.name when absent.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="Secret whose keys are the environment of the download alone, such as HF_TOKEN "
        "or AWS_ACCESS_KEY_ID. The serving container does not see it.",
    )
    cache: CacheSpec | None = Field(
        default=None, description="Keeps the download; when absent each pod downloads by itself."
    )

    @property
    def scheme(self) -> Literal["hf", "s3", "pvc", "builtin"]:
        """The part of the URI before `://`."""
        scheme = self.uri.partition("://")[0]
        match scheme:
            case "hf" | "s3" | "pvc" | "builtin":
                return scheme
            case _:
                raise ValueError(f"spec.model.uri: {self.uri!r} {_URI_HELP}")

    @property
    def is_downloaded(self) -> bool:
        """Whether a download precedes serving."""
        return self.scheme in ("hf", "s3")
