"""LoRA adapters that replicas of one model have or have not."""

from __future__ import annotations

from octavo_operator.adapters import MOST_QUESTIONS, PATIENCE_SECONDS, Adapters
from octavo_operator.manifest import POD, Manifest
from octavo_operator.startups import StartupReport
from tests.support.operator.builders import KEY, container, pod, seen
from tests.support.operator.world import World, running

SQL = "a" * 16


def serving(name: str, run: str = "1") -> Manifest:
    made = pod(name, ready=True, statuses=[container(running=True) | {"containerID": run}])
    made["status"]["podIPs"] = [{"ip": "10.0.0.1"}]
    return made


def told(count: int | None, content: str = "") -> StartupReport:
    return StartupReport(started=True, phases=(), adapters=count, adapters_content=content)


def answer(adapters: Adapters, **by_pod: StartupReport | None) -> bool:
    """Whether there is news after the pods were asked."""
    questions = adapters.questions(9)
    return bool(
        adapters.hear([(each, by_pod.get(each.pod.replace("-", "_"))) for each in questions])
    )


def test_pods_are_asked_again_and_again_where_several_take_adapters() -> None:
    adapters, fleet = Adapters(), seen([serving("a-1"), serving("a-2")])
    assert adapters.follow(KEY, seen([serving("a-1")]), takes_some=True) == {}
    assert adapters.questions(9) == []
    assert adapters.follow(KEY, fleet, takes_some=False) == {}
    assert adapters.questions(9) == []
    assert adapters.follow(KEY, fleet, takes_some=True) == {"a-1": None, "a-2": None}
    assert answer(adapters, a_1=told(1, SQL), a_2=told(0))
    assert not answer(adapters, a_1=told(1, SQL), a_2=None), "what was told holds"
    assert answer(adapters, a_2=told(1, SQL))
    held = adapters.follow(KEY, fleet, takes_some=True)
    assert held == {"a-1": (1, SQL), "a-2": (1, SQL)}
    again = seen([serving("a-1", run="2"), serving("a-2")])
    assert adapters.follow(KEY, again, takes_some=True) == {"a-1": None, "a-2": (1, SQL)}
    for _ in range(MOST_QUESTIONS):
        assert not answer(adapters, a_1=told(None))
    assert adapters.follow(KEY, again, takes_some=True) == {"a-2": (1, SQL)}, "an earlier runtime"


def two_replicas() -> World:
    world = running(replicas=2, engine={"enableLora": True})
    for index in range(2):
        live = world.kube.live(POD, KEY.namespace, f"llama-{index}")
        run = container(running=True) | {"containerID": f"run-{index}"}
        live["status"] |= {"podIPs": [{"ip": f"10.0.0.{index + 1}"}], "containerStatuses": [run]}
    world.reconcile()
    return world


def test_an_adapter_that_one_replica_lacks_is_a_matter_for_a_person_when_it_stays_so() -> None:
    world = two_replicas()
    adapters = world.reconciler._adapters
    assert answer(adapters, llama_0=told(1, SQL), llama_1=told(0))
    assert world.reconcile() == PATIENCE_SECONDS
    assert world.condition("Degraded") == ("False", "AsExpected"), "they are loaded one by one"
    world.seconds = PATIENCE_SECONDS
    world.reconcile()
    assert world.condition("Degraded") == ("True", "AdaptersDiffer")
    assert world.condition("Ready") == ("True", "Serving")
    (message,) = (c["message"] for c in world.status["conditions"] if c["type"] == "Degraded")
    assert f"1 with content {SQL} (llama-0); none (llama-1)" in message
    world.restart_operator()
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == [], "what was told stays until all have told anew"
    assert answer(world.reconciler._adapters, llama_0=told(1, SQL), llama_1=told(1, SQL))
    world.reconcile()
    assert world.condition("Degraded") == ("False", "AsExpected")
