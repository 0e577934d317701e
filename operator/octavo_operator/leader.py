"""Leader election with a Lease: of several replicas one acts.

After the algorithm of client-go's leaderelection: the holder renews the Lease well within the
duration that it states there; another replica takes it over when it has seen no renewal for a whole
such duration, measured on its own clock from when it saw the last one, so that neither the clocks of
two machines matter nor that an upgrade sets another duration. A holder that cannot renew in time stops
acting before anybody else may start.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from octavo_operator.kube import Kube, KubeError
from octavo_operator.manifest import LEASE, Manifest, ObjectKey

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """In seconds. A holder gives up `renew_deadline` after its last renewal; others wait its `duration`."""

    duration: float
    renew_deadline: float
    retry_period: float

    @classmethod
    def of(cls, duration: float) -> LeaseTimes:
        """The proportions that Kubernetes' own components use: 15, 10 and 2."""
        return cls(duration, duration * 2 / 3, duration * 2 / 15)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who stands for election: the name that the Lease shows and, if it is a pod, its uid."""

    identity: str
    pod_uid: str = ""

    def as_owners(self) -> list[Manifest]:
        """Makes Kubernetes collect the Lease with the pod that held it last, so that an uninstall
        leaves none: by the time that a pod ends, its rights may be gone already. As everywhere in
        Kubernetes, a pod that was removed by force counts as one that has ended."""
        if not self.pod_uid:
            return []
        return [{"apiVersion": "v1", "kind": "Pod", "name": self.identity, "uid": self.pod_uid}]


class LeaderElection:
    """One candidate. `acquire` returns when it leads; `hold` returns when it no longer does."""

    def __init__(
        self,
        kube: Kube,
        key: ObjectKey,
        candidate: Candidate,
        times: LeaseTimes,
        steady_clock: Callable[[], float],
    ) -> None:
        self._kube = kube
        self._key = key
        self._candidate = candidate
        self._identity = candidate.identity
        self._times = times
        self._clock = steady_clock
        self._observed: tuple[object, object] | None = None
        self._observed_at = 0.0
        self._observed_duration = times.duration
        self._attended_at: float | None = None
        self._lost_race = False

    def problem(self) -> str | None:
        """Why this candidate could not act in its turn, or no longer: the Lease was not seen, or not
        renewed, for its duration. None while all is well."""
        if self._attended_at is None:
            return f"Lease {self._key} has not been seen yet"
        age = self._clock() - self._attended_at
        return (
            f"Lease {self._key} was not seen for {age:.0f} s"
            if age > self._times.duration
            else None
        )

    async def acquire(self) -> None:
        """Tries until this candidate holds the Lease."""
        log.info("waiting for the lease", lease=str(self._key), identity=self._identity)
        while not await self._try():
            await asyncio.sleep(self._pause())
        log.info("leading", lease=str(self._key), identity=self._identity)

    async def hold(self) -> None:
        """Renews until a renewal failed for `renew_deadline`, or somebody else holds the Lease."""
        renewed_at = self._clock()
        while True:
            await asyncio.sleep(self._times.retry_period)
            left = renewed_at + self._times.renew_deadline - self._clock()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    is_held = await self._try()
            except TimeoutError:
                is_held = False
            if is_held:
                renewed_at = self._clock()
            elif self._clock() - renewed_at >= self._times.renew_deadline or self._is_taken():
                log.error("lost the lease", lease=str(self._key), identity=self._identity)
                return

    async def release(self) -> None:
        """Lets the next candidate start at once instead of after the duration."""
        try:
            lease = await self._kube.get(LEASE, self._key.namespace, self._key.name)
            if lease is None or lease.get("spec", {}).get("holderIdentity") != self._identity:
                return
            freed = copy.deepcopy(lease)
            freed["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._kube.replace(LEASE, freed)
        except KubeError as error:
            log.warning("lease not released", error=str(error))

    def _pause(self) -> float:
        """Until the next attempt: no longer than until the holder's time runs out."""
        pause = self._times.retry_period * (1 + random.random() / 5)  # noqa: S311
        left = self._observed_at + self._observed_duration - self._clock()
        return min(pause, left) if self._is_taken() else pause

    async def _try(self) -> bool:
        """One attempt to take or renew the Lease. Whether it is held afterwards."""
        try:
            is_held = await self._attempt()
        except KubeError as error:
            # Who was faster is seen at the next look; what answers so twice in a row is a webhook.
            if not error.is_conflict or self._lost_race:
                log.warning("lease not renewed", lease=str(self._key), error=str(error))
            self._lost_race = error.is_conflict
            return False
        self._lost_race = False
        self._attended_at = self._clock()
        return is_held

    async def _attempt(self) -> bool:
        lease = await self._kube.get(LEASE, self._key.namespace, self._key.name)
        if lease is None:
            await self._kube.create(LEASE, self._lease(None))
            return True
        self._observe(lease)
        if self._is_taken():
            return False
        self._observe(await self._kube.replace(LEASE, self._lease(lease)))
        return True

    def _observe(self, lease: Manifest) -> None:
        spec = lease.get("spec", {})
        self._observed_duration = spec.get("leaseDurationSeconds") or self._times.duration
        seen = (spec.get("holderIdentity"), spec.get("renewTime"))
        if seen == self._observed:
            return
        before = self._observed[0] if self._observed else None
        self._observed, self._observed_at = seen, self._clock()
        if seen[0] not in (before, self._identity, "", None):
            # Whatever keeps this candidate waiting, and for how long without a renewal.
            log.info(
                "lease is held",
                lease=str(self._key),
                holder=seen[0],
                duration_seconds=self._observed_duration,
            )

    def _is_taken(self) -> bool:
        """Whether somebody else holds the Lease and renewed it lately."""
        holder = self._observed[0] if self._observed else None
        if not holder or holder == self._identity:
            return False
        return self._clock() - self._observed_at < self._observed_duration

    def _lease(self, live: Manifest | None) -> Manifest:
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._times.duration)),
            "renewTime": _now(),
        }
        if live is None:
            return {
                "apiVersion": LEASE.api_version,
                "kind": LEASE.kind,
                "metadata": {
                    "name": self._key.name,
                    "namespace": self._key.namespace,
                    "ownerReferences": self._candidate.as_owners(),
                },
                "spec": {**spec, "acquireTime": _now(), "leaseTransitions": 0},
            }
        lease = copy.deepcopy(live)
        before = lease.setdefault("spec", {})
        if before.get("holderIdentity") != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = before.get("leaseTransitions", 0) + 1
        before |= spec
        lease["metadata"]["ownerReferences"] = self._candidate.as_owners()
        return lease


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
