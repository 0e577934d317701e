"""World: one object, the cluster in memory and the operator that reconciles it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.autoscale.load import ReplicaLoad, Snapshot
from octavo_operator.kube import KubeError
from octavo_operator.manifest import DEPLOYMENT, LLM_DEPLOYMENT, Manifest, ObjectKey
from octavo_operator.reconcile import Reconciler
from tests.support.operator.builders import INSTALLATION, KEY, NOW, resource
from tests.support.operator.fake_kube import FakeKube


class World:
    """A cluster, an operator and a clock."""

    def __init__(self, *, prometheus: bool = True, **fields: Any) -> None:
        self.kube = FakeKube()
        self.kube.put(LLM_DEPLOYMENT, resource(**fields))
        self.seconds = 0.0
        self.restart_operator(prometheus=prometheus)

    def restart_operator(self, *, prometheus: bool = True) -> None:
        self.autoscaler = Autoscaler(is_configured=prometheus, snapshot_max_age_seconds=60)
        self.reconciler = Reconciler(
            self.kube,
            INSTALLATION,
            self.autoscaler,
            instance="test",
            wall_clock=self.wall_clock,
            steady_clock=lambda: self.seconds,
        )

    def wall_clock(self) -> datetime:
        return datetime.fromtimestamp(NOW.timestamp() + self.seconds, tz=NOW.tzinfo)

    def reconcile(self) -> float | None:
        return asyncio.run(self.reconciler.reconcile(KEY))

    def edit(self, **fields: Any) -> None:
        live = self.resource
        self.kube.put(LLM_DEPLOYMENT, {**live, "spec": {**live["spec"], **fields}})

    def load(self, waiting: float, running: float = 0) -> None:
        names = [name for kind, _, name in self.kube.objects if kind == "Pod"]
        share = ReplicaLoad(waiting / max(1, len(names)), running / max(1, len(names)))
        loads = {ObjectKey(KEY.namespace, name): share for name in names}
        self.autoscaler.snapshot = Snapshot(self.seconds, loads)

    @property
    def resource(self) -> Manifest:
        return self.kube.live(LLM_DEPLOYMENT, KEY.namespace, KEY.name)

    @property
    def deployment(self) -> Manifest:
        return self.kube.live(DEPLOYMENT, KEY.namespace, KEY.name)

    @property
    def status(self) -> Manifest:
        status: Manifest = self.resource["status"]
        return status

    def condition(self, type_: str) -> tuple[str, str]:
        return next(
            (each["status"], each["reason"])
            for each in self.status["conditions"]
            if each["type"] == type_
        )

    def events(self) -> list[str]:
        return [each["reason"] for (kind, *_), each in self.kube.objects.items() if kind == "Event"]


def running(**fields: Any) -> World:
    """A world in which the pods already answer."""
    world = World(**fields)
    world.reconcile()
    world.kube.run_pods(KEY.namespace, KEY.name)
    world.reconcile()
    return world


def refused(kind: Any) -> Any:
    refusal = KubeError(403, "Forbidden", "exceeded quota")
    return lambda verb, asked, _name: refusal if (verb, asked) == ("apply", kind) else None
