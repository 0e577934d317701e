"""The contract of workloads, met by a group of pods per replica: what a file for LeaderWorkerSet would
hold, reconciled by the operator as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import pytest

from octavo_operator import deciding, observing, reconcile
from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.autoscale.load import ReplicaLoad, Snapshot
from octavo_operator.findings import Finding
from octavo_operator.manifest import (
    LLM_DEPLOYMENT,
    POD,
    SERVICE,
    Child,
    ChildKey,
    Kind,
    Manifest,
    ObjectKey,
)
from octavo_operator.names import REVISION_LABEL, selector
from octavo_operator.pods import PodView
from octavo_operator.render import SURROUNDINGS, PodContext, RenderContext, Replacement
from octavo_operator.render.metadata import child
from octavo_operator.render.pod import pod_template, revision_of
from octavo_operator.replicas import Replica
from octavo_operator.workload import Workload
from tests.support.operator.builders import INSTALLATION, KEY, NOW, resource
from tests.support.operator.fake_kube import FakeKube

SIZE = 2
GROUP = "leaderworkerset.sigs.k8s.io/group-index"
WORKER = "leaderworkerset.sigs.k8s.io/worker-index"
GROUPS = ChildKey(Kind("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets"))
PEERS = ChildKey(SERVICE, "peers")


class Groups:
    """Two pods per replica, of which the first answers; they find each other by a Service of theirs."""

    key = GROUPS
    companions = (PEERS,)
    answering_labels: Mapping[str, str] = {WORKER: "0"}
    own_labels = ()
    makers = Kind("apps/v1", "StatefulSet", "statefulsets")

    def revision(self, pods: PodContext) -> str:
        return revision_of(pod_template(pods))

    def live_revision(self, live: Manifest) -> str | None:
        labels: dict[str, str] = live["spec"]["leaderWorkerTemplate"]["workerTemplate"]["metadata"][
            "labels"
        ]
        return labels.get(REVISION_LABEL)

    def children(self, context: RenderContext) -> list[Child]:
        headless = {"clusterIP": "None", "selector": selector(context.name)}
        template = {"size": SIZE, "workerTemplate": pod_template(context.pods)}
        groups = {"replicas": context.replicas, "leaderWorkerTemplate": template}
        return [
            child(context.owner, PEERS, spec=headless),
            child(context.owner, GROUPS, spec=groups),
        ]

    def replicas(self, name: str, pods: Sequence[PodView]) -> list[Replica]:
        ordered = sorted(pods, key=lambda pod: (pod.labels[GROUP], pod.labels[WORKER]))
        return [
            Replica(f"{name}-{index}", tuple(members), SIZE)
            for index, members in groupby(ordered, key=lambda pod: pod.labels[GROUP])
        ]

    def wanted(self, live: Manifest) -> int | None:
        return int(live["spec"]["replicas"])

    def replacement(self, live: Manifest) -> Replacement | None:
        return None

    def is_held(self, live: Manifest) -> bool:
        return False

    def is_replacing(self, live: Manifest) -> bool:
        return False

    def is_refused(self, live: Manifest) -> bool:
        return False

    def refused(self, live: Manifest, makers: Sequence[Manifest] | None) -> Sequence[Manifest]:
        return ()

    def finding(
        self,
        live: Manifest,
        makers: Sequence[Manifest] | None,
        pods: Sequence[Manifest] = (),
        events: Sequence[Manifest] | None = (),
    ) -> Finding | None:
        return None

    def unmade_since(self, live: Manifest, makers: Sequence[Manifest] | None) -> None:
        return None

    def given_up_since(self, live: Manifest) -> None:
        return None


class World:
    """A cluster whose operator knows groups alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        groups: Workload = Groups()
        for module in (deciding, observing):
            monkeypatch.setattr(module, "workload_of", lambda _spec: groups)
        monkeypatch.setattr(observing, "CHILDREN", (*SURROUNDINGS, *groups.companions, groups.key))
        self.kube = FakeKube()
        self.kube.put(LLM_DEPLOYMENT, resource(**fields))
        self.autoscaler = Autoscaler(is_configured=True, snapshot_max_age_seconds=60)
        self._reconciler = reconcile.Reconciler(
            self.kube,
            INSTALLATION,
            self.autoscaler,
            instance="test",
            wall_clock=lambda: NOW,
            steady_clock=lambda: 0.0,
        )
        self.reconcile()

    def reconcile(self) -> Manifest:
        asyncio.run(self._reconciler.reconcile(KEY))
        status: Manifest = self.kube.live(LLM_DEPLOYMENT, KEY.namespace, KEY.name)["status"]
        return status

    @property
    def groups(self) -> Manifest:
        return self.kube.live(GROUPS.kind, KEY.namespace, KEY.name)

    def add_pod(self, group: int, worker: int, *, ready: bool = True) -> None:
        template = self.groups["spec"]["leaderWorkerTemplate"]["workerTemplate"]
        place = {GROUP: str(group), WORKER: str(worker)}
        self.kube.put(
            POD,
            {
                "metadata": {
                    "name": f"{KEY.name}-{group}-{worker}",
                    "namespace": KEY.namespace,
                    "labels": template["metadata"]["labels"] | place,
                },
                "status": {
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": str(ready),
                            "lastTransitionTime": "2026-05-04T12:00:00Z",
                        }
                    ]
                },
            },
        )


def test_a_group_is_one_replica_and_ready_when_all_of_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, replicas=2)
    for group in (0, 1):
        world.add_pod(group, 0)
    world.add_pod(0, 1)
    world.add_pod(1, 1, ready=False)
    leaders = [f"{KEY.name}-{group}-0" for group in (0, 1)]
    world.kube.lead_to(KEY.namespace, KEY.name, *leaders)
    status = world.reconcile()
    assert (status["replicas"], status["readyReplicas"], status["ready"]) == (2, 1, "1/2")
    world.add_pod(1, 1)
    status = world.reconcile()
    assert status["ready"] == "2/2"
    assert status["conditions"][0]["reason"] == "Serving"


def test_a_workload_may_own_a_second_service_beside_the_users_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    users = world.kube.live(SERVICE, KEY.namespace, KEY.name)
    peers = world.kube.live(SERVICE, KEY.namespace, f"{KEY.name}-peers")
    assert peers["spec"]["clusterIP"] == "None"
    assert (peers["spec"]["selector"] | {WORKER: "0"}).items() <= users["spec"]["selector"].items()
    world.kube.requests.clear()
    world.reconcile()
    assert world.kube.writes == []


def test_autoscaling_counts_groups_by_what_their_leaders_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, autoscaling={"maxReplicas": 9, "queueDepth": 4})
    world.add_pod(0, 0)
    world.add_pod(0, 1)
    leader = ObjectKey(KEY.namespace, f"{KEY.name}-0-0")
    world.autoscaler.snapshot = Snapshot(0.0, {leader: ReplicaLoad(waiting=12, running=8)})
    status = world.reconcile()
    assert world.groups["spec"]["replicas"] == 3
    assert (status["desiredReplicas"], status["queue"]) == (3, 12)
