"""Repair. The JSON patch that undoes in one request what others did to the spec of a child. Pure.

Some fields exclude each other: a probe has one handler, a volume one source, a strategy of one type no
settings of another. Taking out first what was added, or first putting back what was changed, leaves an
object that the API server refuses, so both stand in one patch. An apply follows it and takes the fields
into our name again.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from octavo_operator.drift import Drift, Path, additions, drifts
from octavo_operator.manifest import Manifest

Operation = dict[str, Any]
"""One operation of RFC 6902."""


def repair(
    desired: Manifest, live: Manifest, left: AbstractSet[Path] = frozenset()
) -> tuple[Operation, ...]:
    """The operations, in their order; none where an apply is enough: when nobody added anything but what is
    `left` to others, and nothing stands in the way of ours."""
    added = foreign(desired, live, left)
    missing = list(drifts(desired.get("spec"), live.get("spec"), at=("spec",)))
    if not added and not any(each.is_in_the_way for each in missing):
        return ()
    put_back = [each for each in missing if each.at[-1] != "-"]
    appended = [each for each in missing if each.at[-1] == "-"]
    return (
        # While the indices are those of the live object; then from the last item to the first.
        *(_add(each) for each in put_back),
        *(
            {"op": "remove", "path": pointer(path)}
            for path in added
            if not any(path[: len(each.at)] == each.at for each in put_back)
        ),
        *(_add(each) for each in appended),
    )


def foreign(desired: Manifest, live: Manifest, left: AbstractSet[Path] = frozenset()) -> list[Path]:
    """The places of what others added, without what is `left` to them."""
    return [path for path in additions(desired, live) if path not in left]


def pointer(path: Path) -> str:
    """The path as RFC 6901 writes it."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _add(drift: Drift) -> Operation:
    """Also what replaces a field or an item that is there."""
    operation = "replace" if isinstance(drift.at[-1], int) else "add"
    return {"op": operation, "path": pointer(drift.at), "value": drift.value}


def is_blocked(desired: Manifest, live: Manifest) -> bool:
    """Whether an apply would be refused for what stands in its way."""
    return any(each.is_in_the_way for each in drifts(desired, live))
