from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.drift import additions, first_drift
from octavo_operator.manifest import Manifest
from octavo_operator.repair import is_blocked, pointer, repair
from tests.support.operator.fake_kube import patched

PROBE = {"httpGet": {"path": "/readyz", "port": "ops"}, "periodSeconds": 2}


def desired(**spec: Any) -> Manifest:
    return {"metadata": {}, "spec": copy.deepcopy(spec)}


def live(spec: dict[str, Any], **owned: Any) -> Manifest:
    """With what a manager other than us owns."""
    entry = {"manager": "kubectl-patch", "operation": "Update", "fieldsV1": {"f:spec": owned}}
    return {"metadata": {"managedFields": [entry]}, "spec": copy.deepcopy(spec)}


def test_without_an_addition_an_apply_is_enough() -> None:
    assert repair(desired(a=1), live({"a": 2, "defaulted": True}, **{"f:a": {}})) == ()


def test_a_handler_that_was_swapped_goes_as_the_former_comes_back() -> None:
    """One without the other is an object that the API server refuses."""
    swapped = {"probe": {"exec": {"command": ["true"]}, "periodSeconds": 2}}
    operations = repair(
        desired(probe=PROBE), live(swapped, **{"f:probe": {"f:exec": {"f:command": {}}}})
    )
    assert operations == (
        {"op": "add", "path": "/spec/probe/httpGet", "value": PROBE["httpGet"]},
        {"op": "remove", "path": "/spec/probe/exec"},
    )


def test_what_is_replaced_as_a_whole_is_not_taken_apart_before() -> None:
    wanted = desired(selector={"a": "b"})
    wider = live({"selector": {"a": "b", "team": "blue"}}, **{"f:selector": {"f:team": {}}})
    assert repair(wanted, wider) == ({"op": "add", "path": "/spec/selector", "value": {"a": "b"}},)


def test_an_item_that_took_the_place_of_ours_goes_and_ours_comes_back() -> None:
    ours, other = {"name": "octavo", "image": "a"}, {"name": "other", "image": "b"}
    owned: dict[str, Any] = {"f:containers": {'k:{"name":"other"}': {".": {}, "f:image": {}}}}
    operations = repair(desired(containers=[ours]), live({"containers": [other]}, **owned))
    assert operations == (
        {"op": "remove", "path": "/spec/containers/0"},
        {"op": "add", "path": "/spec/containers/-", "value": ours},
    )


def test_a_port_whose_number_nobody_owns_gives_its_place_to_ours() -> None:
    """What a policy of the cluster made of our apply is nobody's: an apply leaves it, and adds a second port
    of one name, which is refused."""
    ours = {"name": "http", "port": 8000, "protocol": "TCP"}
    stands = live({"ports": [{**ours, "port": 9000}]})
    assert is_blocked(desired(ports=[ours]), stands)
    operations = repair(desired(ports=[ours]), stands)
    assert operations == ({"op": "replace", "path": "/spec/ports/0", "value": ours},)
    assert not is_blocked(desired(ports=[ours]), patched(stands, operations))


def test_a_port_that_is_missing_or_has_company_is_an_apply_s() -> None:
    ours = {"name": "http", "port": 8000, "protocol": "TCP"}
    for ports in ([], [{**ours, "name": "mine", "port": 9000}]):
        assert repair(desired(ports=[ours]), live({"ports": ports})) == ()


def test_a_source_that_is_empty_comes_back_too() -> None:
    swapped = {"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]}
    owned: dict[str, Any] = {"f:volumes": {'k:{"name":"tmp"}': {"f:hostPath": {"f:path": {}}}}}
    wanted = desired(volumes=[{"name": "tmp", "emptyDir": {}}])
    assert patched(live(swapped), repair(wanted, live(swapped, **owned)))["spec"] == wanted["spec"]


@pytest.mark.parametrize(("path", "text"), [(("a/b", 0, "~c"), "/a~1b/0/~0c"), ((), "")])
def test_a_pointer_is_escaped(path: tuple[str | int, ...], text: str) -> None:
    assert pointer(path) == text


names = st.sampled_from("abcd")
fields = st.dictionaries(names, st.integers(0, 2), max_size=3)
items = st.lists(
    st.builds(lambda name, rest: {"name": name, **rest}, names, st.builds(dict, sub=fields)),
    max_size=3,
    unique_by=lambda item: item["name"],
)
specs = st.fixed_dictionaries({"containers": items, "selector": fields, "other": fields})


def ownership(value: object) -> dict[str, Any]:
    """`managedFields` of somebody who wrote all of it."""
    match value:
        case dict():
            return {f"f:{key}": ownership(each) for key, each in value.items()}
        case list():
            return {
                f"k:{json.dumps({'name': each['name']})}": {".": {}, **ownership(each)}
                for each in value
            }
        case _:
            return {}


@given(specs, specs)
def test_whatever_somebody_wrote_nothing_of_it_stays_and_nothing_of_ours_is_missing(
    wanted: dict[str, Any], written: dict[str, Any]
) -> None:
    stands = live(written, **ownership(written))
    operations = repair(desired(**wanted), stands)
    if not operations:
        assert not additions(desired(**wanted), stands)
        return
    after = patched(stands, operations)
    assert not additions(desired(**wanted), after)
    assert first_drift(desired(**wanted), after) is None
