"""Drift: where a live object is no longer what was applied. Pure.

Two ways to differ, and two answers. A field that the manifest has and the object lacks or has
otherwise is applied again. A field that somebody added stays through every apply, because server-side
apply leaves to others what others own, so it must be removed by name (`repair.py`): `managedFields` tell
it from what the API server filled in by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from octavo_operator.api.quantity import parse_quantity
from octavo_operator.manifest import FIELD_MANAGER, Manifest

Path = tuple[str | int, ...]
"""A place in a JSON object: names of fields and indices of items."""

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


@dataclass(frozen=True, slots=True)
class Drift:
    """One place where the live object is not as desired."""

    where: str
    """The field's path in the manifest, for people."""
    at: Path
    """The same in the live object; `-` stands for the end of a list, where the item is missing."""
    value: object
    """What is to stand there."""
    is_missing: bool = False
    """Whether nothing stands there."""
    is_in_the_way: bool = False
    """Whether an item of the same name and of another key stands there: beside it ours would be refused.
    Nobody owns what the cluster's admission made of our own item, so that an apply leaves it."""

    @property
    def is_nothing(self) -> bool:
        """The API server drops what is empty."""
        return self.is_missing and self.value in ({}, [], "", None)


def first_drift(desired: object, live: object) -> str | None:
    """The path of the first field of `desired` that `live` lacks or has differently; None when all
    of it is there. What only `live` has counts where nobody but us may add to it (`_EXACT`)."""
    return next(drifted(desired, live), None)


def drifted(desired: object, live: object) -> Iterator[str]:
    """The paths of all of them, in the manifest's order."""
    return (each.where for each in drifts(desired, live) if not each.is_nothing)


def drifts(
    desired: object,
    live: object,
    where: str = "",
    at: Path = (),
    *,
    is_exact: bool = False,
) -> Iterator[Drift]:
    """Every place where `live` lacks something of `desired` or has it differently, in the manifest's
    order; also what is empty in the manifest and missing."""
    field = where.rpartition(".")[2]
    is_exact = is_exact or field in _EXACT
    match desired, live:
        case dict(), dict():
            if is_exact and set(live) - set(desired):
                yield Drift(where, at, desired)
                return
            for key, value in desired.items():
                path, place = _below(where, key), (*at, key)
                if key in live:
                    yield from drifts(value, live[key], path, place, is_exact=is_exact)
                else:
                    yield Drift(path, place, value, is_missing=True)
        case list(), list() if field in _LIST_KEYS and not is_exact:
            yield from _drifts_of_items(desired, live, where, at, _LIST_KEYS[field])
        case list(), list() if len(desired) == len(live):
            for index, (one, other) in enumerate(zip(desired, live, strict=True)):
                path = f"{where}[{index}]"
                yield from drifts(one, other, path, (*at, index), is_exact=is_exact)
        case _:
            if desired != live and not _same_quantity(desired, live):
                yield Drift(where, at, desired)


def _drifts_of_items(
    desired: list[Any], live: list[Any], where: str, at: Path, keys: tuple[str, ...]
) -> Iterator[Drift]:
    """Of a list whose items are told apart by `keys`."""
    places = {_item_key(item, keys): index for index, item in enumerate(live)}
    if len(places) < len(live):  # one of them twice: which one holds is not ours to guess
        yield Drift(where, at, desired)
        return
    wanted = {_item_key(item, keys) for item in desired}
    strangers = [index for key, index in places.items() if key not in wanted]
    for index, item in enumerate(desired):
        path, found = f"{where}[{index}]", places.get(_item_key(item, keys))
        if found is not None:
            yield from drifts(item, live[found], path, (*at, found))
        elif namesakes := [each for each in strangers if _has_name_of(item, live[each], keys)]:
            yield Drift(path, (*at, namesakes[0]), item, is_in_the_way=True)
        else:
            yield Drift(path, (*at, "-"), item, is_missing=True)


def _has_name_of(port: object, other: object, keys: tuple[str, ...]) -> bool:
    """Whether both are ports of one name, of which there may be one, though it is the number that tells them
    apart."""
    if keys != _LIST_KEYS["ports"] or not (isinstance(port, dict) and isinstance(other, dict)):
        return False
    return "name" in port and port["name"] == other.get("name")


def additions(desired: Manifest, live: Manifest) -> list[Path]:
    """The paths of what others added to the spec of `live`, in an order in which they can be removed
    one after the other. Metadata is everybody's: labels and annotations are left alone."""
    found: set[Path] = set()
    for entry in live["metadata"].get("managedFields", ()):
        if is_of_an_apply(entry) or entry.get("subresource"):
            continue
        owned = entry.get("fieldsV1", {}).get("f:spec")
        if owned and "spec" in live and "spec" in desired:
            found |= set(_additions(owned, desired["spec"], live["spec"], ("spec",)))
    return sorted(
        found, key=lambda path: [(isinstance(part, int), part) for part in path], reverse=True
    )


def applied_beside(desired: Manifest, live: Manifest) -> list[Path]:
    """The paths of what was applied to the spec under our name and is not ours: an apply takes it out."""
    entries = filter(is_of_an_apply, live["metadata"].get("managedFields", ()))
    owned = (each.get("fieldsV1", {}).get("f:spec", {}) for each in entries)
    pair = desired.get("spec", {}), live.get("spec", {})
    return [path for each in owned for path in _additions(each, *pair, ("spec",))]


def is_of_an_apply(entry: Manifest) -> bool:
    """Whether an entry of `managedFields` is that of our applies. What our patches put back is
    another one, and so is what somebody else wrote under our name."""
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"


def _additions(owned: dict[str, Any], desired: object, live: object, path: Path) -> Iterator[Path]:
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


def _same_quantity(desired: object, live: object) -> bool:
    """The API server writes quantities in a canonical form: "0.5" comes back as "500m"."""
    if not (isinstance(desired, str) and isinstance(live, str)):
        return False
    try:
        return parse_quantity(desired) == parse_quantity(live)
    except ValueError:
        return False
