from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.manifest import ChildKey, Manifest
from octavo_operator.render import Owner
from octavo_operator.render.cache import KEY as FIRST
from octavo_operator.render.cache import OTHER_KEY as SECOND
from octavo_operator.render.cache import as_it_can_be, key_in_use, misfit
from octavo_operator.render.pod import pod_template
from tests.support.operator.builders import KEY, UID, children, pod_context, spec

OWNER = Owner(KEY, UID)


def wanted(**cache: str) -> Any:
    return spec(model={"uri": "hf://o/n", "cache": {"size": "5Gi", **cache}}).model.cache


def claim(
    *,
    uid: str = UID,
    dying: bool = False,
    bound: bool = True,
    modes: tuple[str, ...] = ("ReadWriteOnce",),
    class_name: str | None = "fast",
) -> Manifest:
    metadata: Manifest = {"name": "llama-models"}
    if not uid:  # as a deletion with --cascade=orphan leaves it
        metadata["labels"] = {"octavo.dev/llmdeployment": KEY.name}
        metadata["annotations"] = {"octavo.dev/manifest-hash": "0"}
    else:
        metadata["ownerReferences"] = [{"uid": uid, "controller": True}]
    if dying:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    requests = {"storage": "5Gi"}
    body: Manifest = {"accessModes": list(modes), "resources": {"requests": requests}}
    if class_name is not None:
        body["storageClassName"] = class_name
    phase = "Bound" if bound else "Pending"
    return {"metadata": metadata, "spec": body, "status": {"phase": phase}}


NONE = None
DYING, OURS, FOREIGN, ORPHAN = claim(dying=True), claim(), claim(uid="other"), claim(uid="")


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (NONE, NONE, FIRST),
        (OURS, NONE, FIRST),
        (OURS, OURS, FIRST),
        (DYING, NONE, SECOND),
        (DYING, OURS, SECOND),
        (NONE, OURS, SECOND),
        (OURS, DYING, FIRST),
        (NONE, DYING, FIRST),
        (DYING, DYING, FIRST),
        (DYING, FOREIGN, FIRST),
        (FOREIGN, NONE, FIRST),
        (FOREIGN, OURS, SECOND),
        (ORPHAN, NONE, FIRST),
        (NONE, ORPHAN, SECOND),
        (DYING, ORPHAN, SECOND),
        (FOREIGN, ORPHAN, SECOND),
        (ORPHAN, OURS, SECOND),
    ],
)
def test_the_claim_in_use_is_one_that_pods_can_mount(
    first: Manifest | None, second: Manifest | None, chosen: ChildKey
) -> None:
    standing = {FIRST: first, SECOND: second}
    assert key_in_use(standing, wanted(), OWNER) == chosen
    assert key_in_use(standing, None, OWNER) == chosen


def test_the_pods_mount_the_claim_in_use() -> None:
    model = {"uri": "hf://o/n", "cache": {"size": "5Gi"}}

    def mounted(key: ChildKey | None) -> str:
        pods = pod_context(model=model)
        volumes = pod_template(type(pods)(pods.owner, pods.spec, pods.installation, cache_key=key))
        (found,) = (each for each in volumes["spec"]["volumes"] if each["name"] == "models")
        return found["persistentVolumeClaim"]["claimName"]

    assert [mounted(each) for each in (None, FIRST, SECOND)] == [
        "llama-models",
        "llama-models",
        "llama-models-2",
    ]


@pytest.mark.parametrize(
    ("cache", "live", "field"),
    [
        ({}, OURS, None),
        ({"storageClassName": "fast"}, OURS, None),
        ({"storageClassName": "slow"}, OURS, "storageClassName is slow, but claim"),
        ({"storageClassName": "slow"}, claim(class_name=None), None),
        ({"storageClassName": "slow"}, NONE, None),
        (
            {"storageClassName": ""},
            OURS,
            "storageClassName is empty, but claim llama-models has fast",
        ),
        ({"storageClassName": "slow"}, claim(class_name=""), "but claim llama-models has none"),
        ({"storageClassName": ""}, claim(class_name=""), None),
        ({"accessMode": "ReadWriteMany"}, OURS, "accessMode is ReadWriteMany, but claim"),
        (
            {"accessMode": "ReadWriteMany"},
            claim(modes=("ReadWriteOnce", "ReadWriteMany")),
            None,
        ),
    ],
)
def test_the_live_claim_says_what_cannot_change(
    cache: dict[str, str], live: Manifest | None, field: str | None
) -> None:
    found = misfit(live, wanted(**cache))
    assert (found is None) is (field is None)
    assert field is None or field in (found or "")


def test_a_claim_that_holds_nothing_yet_makes_room_for_one_that_fits() -> None:
    standing = {FIRST: claim(bound=False), SECOND: None}
    assert key_in_use(standing, wanted(storageClassName="fast"), OWNER) == FIRST
    assert key_in_use(standing, wanted(storageClassName="slow"), OWNER) == SECOND
    standing = {FIRST: claim(bound=True), SECOND: None}
    assert key_in_use(standing, wanted(storageClassName="slow"), OWNER) == FIRST


def test_what_a_claim_has_and_cannot_change_is_applied_as_it_is() -> None:
    model = {
        "uri": "hf://o/n",
        "cache": {"size": "7Gi", "storageClassName": "slow", "accessMode": "ReadWriteMany"},
    }
    (made,) = (each for each in children(model=model) if each.key == FIRST)
    applied = as_it_can_be(OURS, made.manifest)["spec"]
    assert applied["storageClassName"] == "fast"
    assert applied["accessModes"] == ["ReadWriteOnce"]
    assert applied["resources"]["requests"] == {"storage": "7Gi"}
    assert as_it_can_be(claim(class_name=None), made.manifest)["spec"]["storageClassName"] == "slow"


def test_a_claim_of_no_class_asks_for_none() -> None:
    """Absent the cluster's default would be filled in, which makes a volume of its own."""
    cache = {"size": "5Gi", "storageClassName": ""}
    (made,) = (
        each for each in children(model={"uri": "hf://o/n", "cache": cache}) if each.key == FIRST
    )
    assert made.manifest["spec"]["storageClassName"] == ""
