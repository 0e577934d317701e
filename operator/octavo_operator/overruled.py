"""Overruled: what the cluster's admission changes in all that we apply to a child. Pure.

A webhook or a policy (a mirror of images, labels of a platform) has the last word on a field, and the answer
to an apply is what stood there before it. To apply it again at every event would be in vain: it is left alone
for a while, each time twice as long, and told, as what runs is not what was asked for.

The API server has one, too: a field that we take out comes back with its default, and is ours from then on as
what we wrote. It stands as it is to be, so nothing is told, and it is left alone until something changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo_operator.api.conditions import Reason
from octavo_operator.drift import drifted
from octavo_operator.findings import Finding
from octavo_operator.listing import listed
from octavo_operator.manifest import ChildKey, Manifest, ObjectKey, digest
from octavo_operator.names import HASH_ANNOTATION
from octavo_operator.plan import Action, ActionType
from octavo_operator.render.service import KEY as SERVICE
from octavo_operator.render.service import off_the_network

FIRST_SECONDS = 30.0
"""How long it is left alone at first: whoever overruled it does not tell when they stop."""
LONGEST_SECONDS = 300.0
"""How long at most. An apply in vain writes nothing, yet the API server and its webhooks work for it."""
REMEDY = (
    "most often a MutatingWebhookConfiguration or MutatingAdmissionPolicy. Exempt Octavo's objects from "
    f"it: what was asked for is applied again at least every {LONGEST_SECONDS / 60:.0f} minutes"
)
"""Who does it, what to do and what happens then."""

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
    left_alone: float
    """For how many seconds."""
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
            if ruling is not None and ruling.what != _what(action):
                del self._rulings[owner, action.key]
            going.append(action.kept(REMEDY) if is_vain else action)
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
            before = self._rulings.pop((owner, action.key), None)
            found = list(drifted(action.desired, answer))
            versions = [each["metadata"].get("resourceVersion") for each in (answer, action.live)]
            if versions[0] != versions[1] or not (found or action.repair):
                continue
            is_off = action.key == SERVICE and off_the_network(answer)
            if not (found or is_off):
                # What was taken out is a default, or allocated, and came back.
                ruling = _Ruling(_what(action), "", "", math.inf, math.inf)
                self._rulings[owner, action.key] = ruling
                continue
            name = f"{action.key.kind.kind} {action.where.name}"
            of_pods = [each for each in found if each.startswith(_OF_PODS)]
            others = [each for each in found if each.startswith("spec.") and each not in of_pods]
            seconds = min(2 * before.left_alone, LONGEST_SECONDS) if before else FIRST_SECONDS
            self._rulings[owner, action.key] = _Ruling(
                _what(action), _told(of_pods, name), _told(others, name), seconds, now + seconds
            )

    def wait(self, owner: ObjectKey, now: float) -> float | None:
        """The seconds after which the first of them is worth another try."""
        times = (each.until for each in self._of(owner) if each.until < math.inf)
        return min((max(0.0, each - now) for each in times), default=None)

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
        f"{listed(fields)} of {name} {are} not as applied: something in the cluster changes {them}, "
        f"{REMEDY}"
    )


def _what(action: Action) -> str:
    if action.desired is None or action.live is None:
        return ""
    metadata = action.live["metadata"]
    kept = {key: metadata.get(key) for key in ("labels", "annotations", "ownerReferences", "uid")}
    content = {key: action.live[key] for key in action.live if key not in ("metadata", "status")}
    return digest([action.desired["metadata"]["annotations"][HASH_ANNOTATION], kept, content])
