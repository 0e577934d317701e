"""Base of the models of this version. What every model of this version is made with: the base class, CEL
rules, names of objects."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# As Kubernetes' validation has them: what a pod would refuse is refused here, with its field.
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
DNS_SUBDOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
NAME_PART = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=rf"^{DNS_SUBDOMAIN}$")]


def cel(rule: str, message: str, field: str | None = None) -> dict[str, Any]:
    """A validation rule of the API server; `field` is the one that its message is about."""
    validation = {"rule": rule, "message": message}
    return validation if field is None else validation | {"fieldPath": f".{field}"}


def cel_for_new(rule: str, message: str, field: str) -> dict[str, Any]:
    """The same for objects that keep it already: one that was stored against it may go on being changed,
    scaled and applied anew. The rule names its fields `self.…`."""
    before = rule.replace("self.", "oldSelf.value().")
    lenient = f"({rule}) || (oldSelf.hasValue() && !({before}))"
    return cel(lenient, message, field) | {"optionalOldSelf": True}


def rules(*validations: dict[str, Any]) -> dict[str, Any]:
    """The rules as the extra of a JSON schema."""
    return {"x-kubernetes-validations": list(validations)}


class ApiModel(BaseModel):
    """A part of the resource, in camelCase on the wire."""

    # Unknown fields: the API server prunes them, and a CRD newer than the operator must still work.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )
