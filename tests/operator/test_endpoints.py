from __future__ import annotations

from typing import Any

import pytest

from octavo_operator.api.conditions import Reason
from octavo_operator.endpoints import Reach, mismatch, reach, strays
from octavo_operator.manifest import Manifest, ObjectKey
from octavo_operator.pods import views
from octavo_operator.sightings import Sightings
from tests.support.operator.builders import KEY, NOW, pod, seen
from tests.support.operator.fake_kube import endpoint_slice

OTHER = ObjectKey("team", "other")


def reached(slices: list[Manifest], pods: list[Manifest]) -> Reach:
    return reach(slices, seen(pods), views(pods, "nvidia.com/gpu", NOW))


def led_to(*pods: str, **changes: Any) -> Manifest:
    found = endpoint_slice(KEY.namespace, KEY.name, *pods)
    for endpoint in found["endpoints"]:
        endpoint |= changes
    return found


def test_endpoints_that_are_the_pods_that_answer_are_nothing_to_speak_of() -> None:
    pods = [pod("a", ready=True), pod("b", ready=True, revision="old"), pod("c")]
    assert reached([led_to("a", "b")], pods) == Reach()
    assert reached([led_to("a"), led_to("b")], pods) == Reach()


def test_a_pod_that_answers_and_gets_no_requests_is_missing() -> None:
    pods = [pod("a", ready=True), pod("b", ready=True)]
    assert reached([], pods).missing == ("a", "b")
    assert reached([led_to("a")], pods).missing == ("b",)
    assert reached([led_to("a", "b", conditions={"ready": False})], pods).missing == ("a", "b")
    other_port = led_to("a", "b") | {"ports": [{"name": "http", "port": 8001}]}
    assert reached([other_port], pods).missing == ("a", "b")
    assert reached([led_to("a", "b") | {"ports": None}], pods).missing == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "x (10.0.0.1)"),
        ({"targetRef": {}}, "10.0.0.1"),
        ({"targetRef": {"kind": "Node", "name": "a"}}, "a (10.0.0.1)"),
        ({"conditions": {}}, "x (10.0.0.1)"),
    ],
)
def test_whoever_gets_requests_and_is_no_pod_of_ours_is_foreign(
    changes: dict[str, Any], named: str
) -> None:
    assert reached([led_to("x", **changes)], [pod("a")]) == Reach(foreign=(named,))


def test_an_address_that_is_not_the_pod_s_is_foreign() -> None:
    ours = pod("a", ready=True)
    ours["status"]["podIPs"] = [{"ip": "10.0.0.9"}]
    assert reached([led_to("a")], [ours]) == Reach(("a",), ("a (10.0.0.1)",))
    assert reached([led_to("a", addresses=["10.0.0.9"])], [ours]) == Reach()


def test_another_port_of_a_pod_is_foreign_where_the_service_leads_to_it_by_its_name() -> None:
    """As a slice that was made by hand beside the controller's own."""
    pods = [pod("a", ready=True)]
    astray = led_to("a") | {"ports": [{"name": "http", "port": 8001}]}
    assert reached([led_to("a"), astray], pods) == Reach(foreign=("port 8001 of a",))
    idle = led_to("a") | {"ports": [{"name": "ops", "port": 8001}]}
    assert reached([led_to("a"), idle], pods) == Reach()
    unnamed = led_to("a") | {"ports": [{"name": "", "port": 8000}]}
    assert reached([unnamed], pods).missing == ("a",)


def test_a_pod_of_ours_that_gets_requests_and_does_not_answer_is_told_when_it_lasts() -> None:
    found = reached([led_to("a", "b")], [pod("a", ready=True), pod("b")])
    assert found == Reach(unready=("b",))
    assert mismatch("llama", found, []) is None
    told = mismatch("llama", found, found.all)
    assert told is not None
    assert "hold b, which does not answer" in told.message


def test_what_leaves_and_gets_nothing_any_more_is_not_foreign() -> None:
    gone = led_to("gone", conditions={"ready": False, "serving": True, "terminating": True})
    assert reached([gone], []) == Reach()


def test_only_what_lasts_is_said_and_by_name() -> None:
    found = Reach(("a", "b"), ("x (10.0.0.1)",))
    assert mismatch("llama", found, []) is None
    told = mismatch("llama", found, ["b", "x (10.0.0.1)"])
    assert told is not None
    assert told.reason is Reason.ENDPOINTS_MISMATCH
    assert "lack b" in told.message
    assert "a," not in told.message
    assert "hold x (10.0.0.1)" in told.message
    many = strays("llama", [f"p{index}" for index in range(9)])
    assert many is not None
    assert "p4 and 4 more carry" in many.message


def test_what_is_seen_at_every_look_lasts_and_what_comes_and_goes_does_not() -> None:
    sightings = Sightings(10)
    assert sightings.lasting(KEY, "endpoints", ["a"], 0) == ([], 10)
    assert sightings.lasting(KEY, "endpoints", ["a", "b"], 6) == ([], 4)
    assert sightings.lasting(KEY, "endpoints", ["a", "b"], 10) == (["a"], 6)
    assert sightings.lasting(KEY, "strays", ["a"], 10) == ([], 10)
    assert sightings.lasting(OTHER, "endpoints", ["a"], 10) == ([], 10)
    assert sightings.lasting(KEY, "endpoints", ["b"], 12) == ([], 4)
    assert sightings.lasting(KEY, "endpoints", ["a", "b"], 16) == (["b"], 10)
    assert sightings.lasting(KEY, "endpoints", [], 17) == ([], None)
    sightings.forget(OTHER)
    assert sightings.lasting(OTHER, "endpoints", ["a"], 20) == ([], 10)


def test_what_was_told_before_a_restart_is_told_after_it() -> None:
    assert Sightings(10).lasting(KEY, "endpoints", ["a"], 0, was_told=True) == (["a"], None)
