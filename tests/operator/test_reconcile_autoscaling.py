"""Replicas that follow the queue, pass by pass."""

from __future__ import annotations

from octavo_operator.autoscale.load import Snapshot
from octavo_operator.manifest import LLM_DEPLOYMENT
from tests.support.operator.builders import KEY, after, stamp
from tests.support.operator.world import World, running

AUTOSCALED = {
    "autoscaling": {
        "minReplicas": 1,
        "maxReplicas": 4,
        "queueDepth": 4,
        "scaleDownStabilization": "60s",
    }
}


def test_a_queue_adds_replicas_and_an_idle_window_removes_them() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=11)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 3
    assert world.status["desiredReplicas"] == 3
    assert world.status["queue"] == 11
    assert world.condition("Autoscaling") == ("True", "Active")
    assert "Autoscaled" in world.events()
    world.kube.run_pods(KEY.namespace, KEY.name)
    for _ in range(14):
        world.seconds += 5
        world.load(waiting=0)
        world.reconcile()
    assert world.deployment["spec"]["replicas"] == 1


def test_a_restarted_operator_starts_from_the_live_replicas() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=11)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.restart_operator()
    world.seconds += 1000
    world.load(waiting=0)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 3


def test_spec_replicas_have_no_effect_beside_autoscaling() -> None:
    world = running(**AUTOSCALED)
    world.edit(replicas=4)
    world.load(waiting=0)
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 1


REFUSED = "http://prometheus: refused"


def said(world: World) -> str:
    (message,) = (e["message"] for e in world.status["conditions"] if e["type"] == "Autoscaling")
    return str(message)


def test_without_prometheus_s_answer_the_replicas_hold_and_it_is_said_after_a_minute() -> None:
    world = running(**AUTOSCALED)
    world.autoscaler.snapshot = Snapshot(0.0, error=REFUSED)
    world.seconds = 100
    for world.seconds in (100, 159):
        world.reconcile()
        assert world.condition("Autoscaling") == ("True", "Active")
        assert "MetricsUnavailable" not in world.events()
    world.seconds = 160
    world.reconcile()
    assert world.condition("Autoscaling") == ("False", "MetricsUnavailable")
    assert "MetricsUnavailable" in world.events()
    assert said(world) == f"{REFUSED}; replicas hold since {stamp(after(100))}"
    assert "queue" not in world.status
    assert world.deployment["spec"]["replicas"] == 1


def test_one_question_without_an_answer_is_no_alarm_and_no_gap() -> None:
    """Neither does it begin the window anew in which nothing was needed."""
    world = running(**AUTOSCALED)
    world.load(waiting=11)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    for turn in range(14):
        world.seconds += 5
        world.load(waiting=0)
        if turn in (3, 9, 12):
            world.autoscaler.snapshot = Snapshot(world.seconds, error=REFUSED)
        world.reconcile()
        assert world.condition("Autoscaling") == ("True", "Active")
    assert world.deployment["spec"]["replicas"] == 1
    assert "MetricsUnavailable" not in world.events()


def test_what_was_told_before_a_restart_stays_told_with_its_time() -> None:
    world = running(**AUTOSCALED)
    world.autoscaler.snapshot = Snapshot(0.0, error=REFUSED)
    for world.seconds in (100, 160):
        world.reconcile()
    before = said(world)
    world.restart_operator()
    world.autoscaler.snapshot = Snapshot(0.0, error=REFUSED)
    world.seconds = 400
    world.reconcile()
    assert world.condition("Autoscaling") == ("False", "MetricsUnavailable")
    assert said(world) == before
    world.load(waiting=0)
    world.reconcile()
    assert world.condition("Autoscaling") == ("True", "Active")


def test_samples_that_stopped_are_said_and_do_not_scale() -> None:
    world = running(**AUTOSCALED)
    world.load(waiting=100)
    world.seconds += 61  # the snapshot and its samples are too old by now
    world.reconcile()
    assert world.condition("Autoscaling") == ("True", "Active")
    world.seconds += 60
    world.reconcile()
    assert world.condition("Autoscaling") == ("False", "MetricsUnavailable")
    assert "llama-0" in world.status["conditions"][3]["message"]
    assert world.deployment["spec"]["replicas"] == 1


def test_a_pod_that_was_not_scraped_yet_is_no_fault() -> None:
    world = running(**AUTOSCALED)
    world.autoscaler.snapshot = Snapshot(0.0)
    world.seconds += 10
    world.reconcile()
    assert world.condition("Autoscaling") == ("True", "Active")


def test_without_prometheus_the_condition_says_so() -> None:
    world = running(prometheus=False, **AUTOSCALED)
    assert world.condition("Autoscaling") == ("False", "PrometheusNotConfigured")


def test_new_bounds_hold_at_once() -> None:
    world = running(**AUTOSCALED)
    world.edit(autoscaling={"minReplicas": 2, "maxReplicas": 3})
    world.autoscaler.snapshot = None
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 2


def test_switching_autoscaling_off_gives_the_replicas_back_to_the_spec() -> None:
    world = running(**AUTOSCALED)
    live = world.resource
    spec = {key: value for key, value in live["spec"].items() if key != "autoscaling"}
    world.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**spec, "replicas": 2}})
    world.reconcile()
    assert world.deployment["spec"]["replicas"] == 2
    assert world.condition("Autoscaling") == ("False", "Disabled")
    assert "queue" not in world.status
