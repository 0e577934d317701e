"""Overruled: what the cluster's admission changes in all that we apply to a child. Pure.

A webhook or a policy (a mirror of images, labels of a platform) has the last word on a field, and the answer
to an apply is what stood there before it. To apply it again at every event would be in vain: it is left alone
for a while, and told, as what runs is not what was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.drift import drifted
from octavo_operator.listing import listed
from octavo_operator.manifest import ChildKey, Manifest, ObjectKey, digest
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.plan import Action, ActionType
from octavo_operator.pods import Finding

AGAIN_SECONDS = 600.0
"""How long it is left alone: whoever overruled it does not tell when they stop."""

_OF_PODS = "spec.template.spec."
"""Where clusters have rules of their own: images, tolerations, users. Elsewhere it is a contest."""


@dataclass(frozen=True, slots=True)
class _Ruling:
    """One child that is not as applied, and will not be."""

    what: str
    """Hash of the manifest and of what stands."""
    of_pods: str
    """Which fields of the pods, and whose; empty where none is."""
    of_others: str
    """Which others. Metadata is everybody's, and nothing follows from it."""
    until: float


@dataclass(slots=True)
class Overruled:
    """What was in vain lately, by child of each object; `now` is seconds on any steady clock."""

    _rulings: dict[tuple[ObjectKey, ChildKey], _Ruling] = field(default_factory=dict)

    def hold(self, owner: ObjectKey, actions: Sequence[Action], now: float) -> list[Action]:
        """The actions without those that are known to be in vain."""
        going = []
        for action in actions:
            ruling = self._rulings.get((owner, action.key))
            is_vain = ruling is not None and now < ruling.until and ruling.what == _what(action)
            if not is_vain:
                self._rulings.pop((owner, action.key), None)
            going.append(action.kept() if is_vain else action)
        return going

    def count(
        self,
        owner: ObjectKey,
        actions: Sequence[Action],
        answers: Mapping[ChildKey, Manifest | None],
        now: float,
    ) -> None:
        """Remembers the applies whose answer is what stood there."""
        for action in actions:
            answer = answers.get(action.key)
            if action.type is not ActionType.APPLY or not answer or not action.live:
                continue
            found = list(drifted(action.desired, answer))
            versions = [each["metadata"].get("resourceVersion") for each in (answer, action.live)]
            if not found or versions[0] != versions[1]:
                continue
            name = f"{action.key.kind.kind} {action.where.name}"
            of_pods = [each for each in found if each.startswith(_OF_PODS)]
            others = [each for each in found if each.startswith("spec.") and each not in of_pods]
            self._rulings[owner, action.key] = _Ruling(
                _what(action), _told(of_pods, name), _told(others, name), now + AGAIN_SECONDS
            )

    def remark(self, owner: ObjectKey) -> str:
        """What is said of pods that run otherwise than was asked for."""
        return "; ".join(each.of_pods for each in self._of(owner) if each.of_pods)

    def notice(self, owner: ObjectKey) -> Finding | None:
        """What is said of anything else."""
        told = [each.of_others for each in self._of(owner) if each.of_others]
        return Finding(Reason.CONTESTED, "; ".join(told)) if told else None

    def forget(self, owner: ObjectKey) -> None:
        """The object is gone."""
        for key in [key for key in self._rulings if key[0] == owner]:
            del self._rulings[key]

    def _of(self, owner: ObjectKey) -> list[_Ruling]:
        return [self._rulings[key] for key in sorted(self._rulings) if key[0] == owner]


def _told(fields: Sequence[str], name: str) -> str:
    if not fields:
        return ""
    are, them = ("are", "them") if fields[1:] else ("is", "it")
    return (
        f"{listed(fields)} of {name} {are} not as applied: something in the cluster changes {them}"
    )


def _what(action: Action) -> str:
    if action.desired is None or action.live is None:
        return ""
    metadata = action.live["metadata"]
    kept = {key: metadata.get(key) for key in ("labels", "annotations", "ownerReferences", "uid")}
    content = {key: action.live[key] for key in action.live if key not in ("metadata", "status")}
    return digest([action.desired["metadata"]["annotations"][HASH_ANNOTATION], kept, content])
