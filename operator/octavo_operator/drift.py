"""Drift: where a live object is no longer what was applied. Pure.

Two ways to differ, and two answers. A field that the manifest has and the object lacks or has
otherwise is applied again. A field that somebody added stays through every apply, because server-side
apply leaves to others what others own, so it must be removed by name: `managedFields` tell it from what
the API server filled in by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from octavo_operator.api.quantity import parse_quantity
from octavo_operator.manifest import FIELD_MANAGER, Manifest

_EXACT = frozenset(
    {
        "affinity",
        "egress",
        "ingress",
        "labelSelector",
        "namespaceSelector",
        "nodeSelector",
        "podSelector",
        "policyTypes",
        "selector",
        "tolerations",
    }
)
"""Fields that have one owner and no defaults within: whatever is more in them is a change."""

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "ports": ("containerPort", "port", "protocol"),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
"""Lists that several owners may add to, and by what their items are told apart."""


def first_drift(
    desired: object, live: object, path: str = "", *, is_exact: bool = False
) -> str | None:
    """The path of the first field of `desired` that `live` lacks or has differently; None when all
    of it is there. What only `live` has counts where nobody but us may add to it (`is_exact`)."""
    field = path.rpartition(".")[2]
    is_exact = is_exact or field in _EXACT
    match desired, live:
        case dict(), dict():
            if is_exact and set(live) - set(desired):
                return path
            return _first(
                (first_drift(value, live[key], _below(path, key), is_exact=is_exact))
                if key in live
                else _below(path, key)
                # The API server drops what is empty.
                for key, value in desired.items()
                if key in live or value not in ({}, [], None)
            )
        case list(), list() if field in _LIST_KEYS and not is_exact:
            keys = _LIST_KEYS[field]
            by_key = {_item_key(item, keys): item for item in live}
            return _first(
                first_drift(item, by_key.get(_item_key(item, keys)), f"{path}[{index}]")
                for index, item in enumerate(desired)
            )
        case list(), list():
            if len(desired) != len(live):
                return path
            return _first(
                first_drift(one, other, f"{path}[{index}]", is_exact=is_exact)
                for index, (one, other) in enumerate(zip(desired, live, strict=True))
            )
        case _:
            return None if desired == live or _same_quantity(desired, live) else path


def additions(desired: Manifest, live: Manifest) -> list[str]:
    """JSON pointers to what others added to the spec of `live`, in an order in which they can be
    removed one after the other. Metadata is everybody's: labels and annotations are left alone."""
    found: set[tuple[str | int, ...]] = set()
    for entry in live["metadata"].get("managedFields", ()):
        if entry.get("manager") == FIELD_MANAGER or entry.get("subresource"):
            continue
        owned = entry.get("fieldsV1", {}).get("f:spec")
        if owned and "spec" in live and "spec" in desired:
            found |= set(_additions(owned, desired["spec"], live["spec"], ("spec",)))
    ordered = sorted(found, key=lambda path: [(isinstance(part, int), part) for part in path])
    return ["".join(f"/{_escaped(part)}" for part in path) for path in reversed(ordered)]


def _additions(
    owned: dict[str, Any], desired: object, live: object, path: tuple[str | int, ...]
) -> Iterator[tuple[str | int, ...]]:
    """What of the fields that one manager owns is there and not desired."""
    for name, below in owned.items():
        match name[:2], desired, live:
            case "f:", dict(), dict():
                key = name[2:]
                if key == "metadata" or key not in live:
                    continue
                if key not in desired:
                    yield (*path, key)
                else:
                    yield from _additions(below, desired[key], live[key], (*path, key))
            case "k:", list(), list():
                identity = json.loads(name[2:])
                index = _index(live, identity)
                if index is None:
                    continue
                wanted = _index(desired, identity)
                if wanted is None:
                    yield (*path, index)
                else:
                    yield from _additions(below, desired[wanted], live[index], (*path, index))
            case _:
                continue


def _index(items: list[Any], identity: dict[str, Any]) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and identity.items() <= item.items():
            return index
    return None


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _item_key(item: object, keys: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(item.get(key) for key in keys) if isinstance(item, dict) else (item,)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _same_quantity(desired: object, live: object) -> bool:
    """The API server writes quantities in a canonical form: "0.5" comes back as "500m"."""
    if not (isinstance(desired, str) and isinstance(live, str)):
        return False
    try:
        return parse_quantity(desired) == parse_quantity(live)
    except ValueError:
        return False


def _first(drifts: Iterable[str | None]) -> str | None:
    return next((drift for drift in drifts if drift), None)
