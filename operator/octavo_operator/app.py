"""Application. The running operator: wires settings, cluster, queue, autoscaling and kopf together."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog
from kubernetes.aio.client import Configuration

from octavo_operator import health, metrics
from octavo_operator.adapters import Adapters
from octavo_operator.autoscale.access import Access
from octavo_operator.autoscale.controller import Autoscaler
from octavo_operator.autoscale.load import LoadError, LoadSource, Snapshot
from octavo_operator.autoscale.prometheus import Prometheus
from octavo_operator.commits import Commits
from octavo_operator.handlers import WATCHED_KINDS
from octavo_operator.kube import ApiServer, Kube, KubeError, load_configuration
from octavo_operator.leader import Candidate, LeaderElection, LeaseTimes
from octavo_operator.manifest import LLM_DEPLOYMENT, Manifest, ObjectKey, key_of
from octavo_operator.ops_port import OpsPort
from octavo_operator.reconcile import Reconciler
from octavo_operator.render import Installation
from octavo_operator.settings import Settings
from octavo_operator.startups import Startups
from octavo_operator.status import is_rolling_out
from octavo_operator.turns import Turns
from octavo_operator.vitals import Vitals
from octavo_operator.watches import Watches
from octavo_operator.watching import WatchError, watch
from octavo_operator.workqueue import WorkQueue

log = structlog.get_logger()

_RACES_SECONDS = 4.0
"""What is tried again after this or more has failed five times in a row: that is no race any more."""
_CRD_RETRY_SECONDS = 2.0


class LostLeaseError(RuntimeError):
    """Another replica may act by now, or will soon. No fault of ours: this process ends as it must."""


def installation_of(settings: Settings) -> Installation:
    """The part of the settings that shows in manifests."""
    return Installation(
        runtime_image=settings.runtime_image,
        image_pull_policy=settings.image_pull_policy.value,
        image_pull_secrets=settings.image_pull_secrets,
        operator_namespace=settings.own_namespace,
        monitoring_namespaces=settings.monitoring_namespaces,
        download_ports=settings.download_ports,
        user_id=settings.runtime_user,
        allowed_runtime_images=settings.allowed_runtime_images,
    )


class Operator:
    """Everything that acts while this replica leads. `run` goes on until it is cancelled."""

    def __init__(
        self,
        kube: Kube,
        load: Callable[[], Awaitable[Configuration]],
        load_source: LoadSource | None,
        settings: Settings,
        identity: str,
    ) -> None:
        self._kube = kube
        self._load = load
        self._load_source = load_source
        self._settings = settings
        self._autoscaler = Autoscaler(
            is_configured=load_source is not None,
            snapshot_max_age_seconds=settings.metrics_max_age_seconds,
        )
        self.queue: WorkQueue[ObjectKey] = WorkQueue(self._work, _log_failure, settings.workers)
        self._turns = Turns(settings.max_concurrent_rollouts, self.queue.add)
        self._startups = Startups()
        self._commits = Commits()
        self._adapters = Adapters()
        self._reconciler = Reconciler(
            kube,
            installation_of(settings),
            self._autoscaler,
            self._turns,
            self._startups,
            self._commits,
            self._adapters,
            instance=identity,
            wall_clock=lambda: datetime.now(UTC),
            steady_clock=time.monotonic,
        )
        self.watches = Watches(WATCHED_KINDS, settings.watch_namespaces)

    async def run(self) -> None:
        """Reconciles what kopf, the resync and the autoscaling pass enqueue."""
        self._turns.seed(key_of(each) for each in await self._first_list() if is_rolling_out(each))
        if self._load_source is not None:
            # Before the first decision, which would otherwise be taken blindly.
            await self._take_snapshot(self._load_source)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run(), name="queue")
            group.create_task(self._resync_forever(), name="resync")
            if self._load_source is not None:
                group.create_task(self._autoscale_forever(self._load_source), name="autoscale")
            if self._settings.progress_interval_seconds:
                group.create_task(self._follow_startups_forever(), name="startups")
            group.create_task(self._watch_forever(), name="watch")

    async def _watch_forever(self) -> None:
        """Follows what changes. A definition that is taken away, or a right, ends that: it begins anew when
        all objects can be listed again, which kopf then does."""
        namespaces = self._settings.watch_namespaces
        while True:
            try:
                await watch(self._enqueue, self._load, namespaces, self.watches)
            except WatchError as error:
                log.warning("nothing is followed any more; beginning anew", error=str(error))
            await asyncio.sleep(_CRD_RETRY_SECONDS)
            await self._first_list()
            for key in self._reconciler.known:
                self.queue.add(key)  # what has gone meanwhile is in no list

    def _enqueue(self, key: ObjectKey, seconds: float) -> None:
        if seconds:
            self.queue.add_after(key, seconds)
        else:
            self.queue.add(key)

    async def _work(self, key: ObjectKey) -> float | None:
        metrics.QUEUE_DEPTH.set(self.queue.depth)
        try:
            with metrics.RECONCILE_SECONDS.time():
                return await self._reconciler.reconcile(key)
        except KubeError as error:
            if error.is_namespace_terminating:
                return None
            raise

    async def _first_list(self) -> list[Manifest]:
        """Waits for the CRD: kopf looks once for the resources that it watches, so they must be there
        first."""
        while True:
            try:
                return await self._resources()
            except KubeError as error:
                log.warning("cannot list LLMDeployments, is the CRD installed?", error=str(error))
                await asyncio.sleep(_CRD_RETRY_SECONDS)

    async def _resources(self) -> list[Manifest]:
        """All objects that this operator is responsible for."""
        return [
            resource
            for namespace in self._settings.watch_namespaces or (None,)
            for resource in await self._kube.list(LLM_DEPLOYMENT, namespace)
        ]

    async def _resync_forever(self) -> None:
        """Every object now and then, whatever the watches say, spread over the period; also those that have
        gone, which a watch may have missed."""
        period = self._settings.resync_seconds
        while True:
            await asyncio.sleep(period * (0.9 + random.random() / 5))  # noqa: S311
            try:
                listed = {key_of(each) for each in await self._resources()}
                for key in listed | self._reconciler.known:
                    self.queue.add_after(key, random.random() * period / 2)  # noqa: S311
            except KubeError as error:
                log.warning("resync skipped", error=str(error))

    async def _autoscale_forever(self, source: LoadSource) -> None:
        """Enqueues the objects that scale by the pods' load, after a look at it."""
        while True:
            await asyncio.sleep(self._settings.autoscale_interval_seconds)
            if keys := self._autoscaler.keys():
                await self._take_snapshot(source)
                for key in keys:
                    self.queue.add(key)

    async def _follow_startups_forever(self) -> None:
        """Enqueues the objects whose starting pods have come further, or whose pods told what they serve
        or have."""
        ops_port = OpsPort(self._settings.progress_timeout_seconds)
        while True:
            await asyncio.sleep(self._settings.progress_interval_seconds)
            for asking in (self._startups, self._commits, self._adapters):
                for key in await ops_port.ask(asking):
                    self.queue.add_behind(key)

    async def _take_snapshot(self, source: LoadSource) -> None:
        try:
            self._autoscaler.snapshot = await source.snapshot(time.time(), time.monotonic())
        except LoadError as error:
            metrics.PROMETHEUS_ERRORS.inc()
            log.warning("no samples", error=str(error))
            self._autoscaler.snapshot = Snapshot(time.monotonic(), error=str(error))


async def run(settings: Settings, stop: asyncio.Event, *, kubeconfig: str | None = None) -> None:
    """Runs until `stop` is set; raises LostLeaseError, and RuntimeError when a part fails."""
    identity = settings.identity or socket.gethostname()
    configuration = await load_configuration(kubeconfig)
    async with AsyncExitStack() as stack:
        kube = ApiServer(configuration, settings.request_timeout_seconds)
        stack.push_async_callback(kube.close)
        load_source = _load_source(settings)
        if load_source is not None:
            stack.push_async_callback(load_source.close)
        operator = Operator(
            kube, lambda: load_configuration(kubeconfig), load_source, settings, identity
        )
        vitals = Vitals(operator.watches, operator.queue)
        await stack.enter_async_context(
            health.serving(
                settings.health_port,
                live=(vitals.watching_turns, vitals.work_goes_on),
                ready=(vitals.lease_is_seen, vitals.all_is_followed),
            )
        )
        await _until(stop, _act_as_leader(operator, vitals, kube, settings, identity))


def _load_source(settings: Settings) -> LoadSource | None:
    if not settings.prometheus_url:
        log.info("autoscaling is off: OCTAVO_OPERATOR_PROMETHEUS_URL is empty")
        return None
    return Prometheus(
        settings.prometheus_url,
        settings.prometheus_timeout_seconds,
        settings.metrics_max_age_seconds,
        Access(
            settings.prometheus_bearer_token_file,
            settings.prometheus_ca_file,
            settings.prometheus_tenant,
        ),
    )


async def _act_as_leader(
    operator: Operator, vitals: Vitals, kube: Kube, settings: Settings, identity: str
) -> None:
    """Acts while it holds the lease (always, without leader election)."""
    if not settings.leader_election:
        await _act(operator, vitals)
        return
    election = LeaderElection(
        kube,
        ObjectKey(settings.own_namespace, settings.lease_name),
        Candidate(identity, settings.pod_uid),
        LeaseTimes.of(settings.lease_duration_seconds),
        time.monotonic,
    )
    vitals.election = election
    await election.acquire()
    holding = asyncio.create_task(election.hold(), name="lease")
    try:
        await _until(holding, _act(operator, vitals))
        raise LostLeaseError("lost the lease; ending, so that a fresh process tries again")
    finally:
        # Nobody may start before this replica has stopped, so the lease goes last.
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        await asyncio.shield(election.release())


async def _act(operator: Operator, vitals: Vitals) -> None:
    metrics.LEADER.set(1)
    vitals.is_acting = True
    try:
        await operator.run()
    finally:
        vitals.is_acting = False
        metrics.LEADER.set(0)


async def _until(
    end: asyncio.Event | asyncio.Task[None], work: Coroutine[None, None, None]
) -> None:
    """Runs `work` until it or `end` is over; work that is not over is cancelled, and awaited."""
    working = asyncio.ensure_future(work)
    ending = asyncio.ensure_future(end.wait()) if isinstance(end, asyncio.Event) else end
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if working.done():
            if isinstance(end, asyncio.Event):
                ending.cancel()
        else:
            working.cancel()
        outcome = (await asyncio.gather(working, return_exceptions=True))[0]
    if isinstance(outcome, Exception):
        raise outcome


def _log_failure(key: ObjectKey, error: Exception, retry_in_seconds: float) -> None:
    is_race = isinstance(error, KubeError) and error.is_conflict
    if is_race and retry_in_seconds < _RACES_SECONDS:
        log.info("reconcile again", key=str(key), why=str(error))
        return
    metrics.RECONCILE_ERRORS.inc()
    is_ours = not isinstance(error, KubeError)
    log.error(
        "reconcile failed",
        key=str(key),
        error=str(error) or type(error).__name__,
        retry_in_seconds=round(retry_in_seconds, 1),
        exc_info=error if is_ours else None,
    )
