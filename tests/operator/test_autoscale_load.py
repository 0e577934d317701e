from __future__ import annotations

from octavo_operator.autoscale.load import Load, ReplicaLoad, Snapshot
from octavo_operator.manifest import ObjectKey
from octavo_operator.pods import view
from octavo_operator.replicas import Replica
from tests.support.operator.builders import KEY, NOW, pod

GPU = "nvidia.com/gpu"
BUSY, IDLE = ReplicaLoad(3, 8), ReplicaLoad(0, 0)


def replica(name: str, *pods: str) -> Replica:
    return Replica(name, tuple(view(pod(each, ready=True), GPU, NOW) for each in pods), len(pods))


def test_a_replica_s_load_is_that_of_the_pod_that_leads_it() -> None:
    group = replica("llama-0", "llama-0-leader", "llama-0-worker")
    pods = {
        ObjectKey(KEY.namespace, "llama-0-leader"): BUSY,
        ObjectKey(KEY.namespace, "llama-0-worker"): IDLE,
        ObjectKey(KEY.namespace, "somebody-else"): BUSY,
    }
    assert Snapshot(0.0, pods).of(KEY, (group,)) == Load({"llama-0": BUSY})


def test_a_pod_of_the_same_name_in_another_namespace_is_another_s() -> None:
    pods = {ObjectKey("elsewhere", "llama-1"): BUSY}
    assert Snapshot(0.0, pods).of(KEY, (replica("llama-1", "llama-1"),)) == Load()


def test_what_waits_before_the_pods_is_known_without_any_pod() -> None:
    other = ObjectKey(KEY.namespace, "other")
    assert Snapshot(0.0, queued={KEY: 2, other: 9}).of(KEY, ()) == Load(queued=2)
    assert Snapshot(0.0, queued={other: 9}).of(KEY, ()) == Load(queued=None)
