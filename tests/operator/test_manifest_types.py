"""The types of manifests against the official client's models: Kubernetes' own names and types."""

from __future__ import annotations

from typing import (
    Any,
    Literal,
    NotRequired,
    Required,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest
from kubernetes.aio.client import models

from octavo_operator import manifest_types

TYPES = {name: each for name, each in vars(manifest_types).items() if is_typeddict(each)}


def official(hint: Any) -> str:
    """The type as the client's models write it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Required, NotRequired):
        return official(arguments[0])
    if origin is Literal:
        return "str"
    if origin is list:
        return f"List[{official(arguments[0])}]"
    if origin is dict:
        return f"Dict[{official(arguments[0])}, {official(arguments[1])}]"
    return f"V1{hint.__name__}" if is_typeddict(hint) else str(hint.__name__)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_key_is_kubernetes_own_and_holds_its_type(name: str) -> None:
    model = getattr(models, f"V1{name}")
    known = {key: model.openapi_types[attribute] for attribute, key in model.attribute_map.items()}
    for key, hint in get_type_hints(TYPES[name], include_extras=True).items():
        assert key in known
        # Where Kubernetes takes a number or a text ("object"), ours says which it writes.
        assert known[key] in (official(hint), "object")
