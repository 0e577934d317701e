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
ObjectNameOrNone = Annotated[str, Field(max_length=253, pattern=rf"^({DNS_SUBDOMAIN})?$")]


def cel(rule: str, message: str, field: str | None = None) -> dict[str, Any]:
    """A validation rule of the API server on one value, which asks it of a value that changes alone; `field`
    is the one that its message is about."""
    validation = {"rule": rule, "message": message}
    return validation if field is None else validation | {"fieldPath": f".{field}"}


def cel_between(
    rule: str, message: str, field: str | None = None, *, was_broken: str | None = None
) -> dict[str, Any]:
    """A rule between fields of an object that is not in a list, which would be asked whatever else changes in
    that object: what was stored against the rule, by a release before it, may go on being changed, scaled
    and applied anew, and what keeps it must go on keeping it. The rule names its fields `self.…`.

    Args:
        was_broken: Says of `oldSelf.value()` what the rule's contrary would say, where that cannot be asked:
            to the API server's estimate of costs the texts in a former self have no bounds.
    """
    broken = was_broken or f"!({before(rule)})"
    lenient = f"({rule}) || (oldSelf.hasValue() && {broken})"
    return cel(lenient, message, field) | {"optionalOldSelf": True}


def before(rule: str) -> str:
    """The same of the former self."""
    return rule.replace("self.", "oldSelf.value().")


def rules(*validations: dict[str, Any]) -> dict[str, Any]:
    """The rules as the extra of a JSON schema."""
    return {"x-kubernetes-validations": list(validations)}


class ApiModel(BaseModel):
    """A part of the resource, in camelCase on the wire."""

    # Unknown fields: the API server prunes them, and a CRD newer than the operator must still work.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )
