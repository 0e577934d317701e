"""Model. `spec.model`: which model, under which names, and how it is fetched and kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from octavo_operator.api.quantity import MemoryQuantity
from octavo_operator.api.v1alpha1.base import ApiModel, ObjectNameOrNone
from octavo_operator.api.v1alpha1.source import ModelSource

_SERVED_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$"


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
    storage_class_name: ObjectNameOrNone | None = Field(
        default=None,
        description="StorageClass; the cluster's default when absent, and when empty none: a volume that "
        "somebody made beforehand. A volume that is there keeps its own.",
    )
    access_mode: AccessMode = Field(
        default=AccessMode.READ_WRITE_ONCE,
        description="ReadWriteMany lets replicas run on many nodes; with ReadWriteOnce all replicas "
        "are placed on one node. A volume that is there keeps its own.",
    )


class ModelSpec(ModelSource):
    """Which model, under which names, and how it is fetched."""

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
    cache: CacheSpec | None = Field(
        default=None,
        description="Keeps the download, and that of a draft model; when absent each pod downloads by "
        "itself.",
    )
