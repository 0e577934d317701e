"""Prometheus as a source of load: one snapshot of all pods per pass, however many CRs there are.

Two instant queries: the values, and the time of the samples, because an instant query also answers
with samples that are minutes old. Pods are told apart by the labels `namespace` and `pod` that
Prometheus itself puts on what it scrapes, so a pod cannot speak for another namespace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from octavo_operator.autoscale.access import AS_EVERYBODY, Access
from octavo_operator.autoscale.load import LoadError, ReplicaLoad, Snapshot
from octavo_operator.manifest import ObjectKey

WAITING = "octavo_requests_waiting"
RUNNING = "octavo_requests_running"
KV_CACHE_USAGE = "octavo_kv_cache_usage_ratio"
_VALUES_QUERY = f'{{__name__=~"{WAITING}|{RUNNING}|{KV_CACHE_USAGE}"}}'
_TIMES_QUERY = f"timestamp({WAITING})"


class Prometheus:
    """The HTTP API of one Prometheus; implements `LoadSource`. It knows of no queue before the pods."""

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        max_age_seconds: float,
        access: Access = AS_EVERYBODY,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._max_age_seconds = max_age_seconds
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._authorities = b""
        """Those that the session trusts."""

    async def snapshot(self, wall_time: float, steady_time: float) -> Snapshot:
        times = _series(await self._query(_TIMES_QUERY, wall_time))
        fresh = {each.source for each in times if wall_time - each.value <= self._max_age_seconds}
        values = _series(await self._query(_VALUES_QUERY, wall_time))
        return Snapshot(steady_time, _loads(each for each in values if each.source in fresh))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _query(self, query: str, wall_time: float) -> Any:
        authorities = self._access.authorities()
        if authorities != self._authorities:
            await self.close()  # an open connection would outlive the authority that vouched for it
        if self._session is None:
            self._authorities = authorities
            connector = aiohttp.TCPConnector(ssl=self._access.tls())
            self._session = aiohttp.ClientSession(timeout=self._timeout, connector=connector)
        headers = self._access.headers()
        parameters = {"query": query, "time": f"{wall_time:.3f}"}
        try:
            async with self._session.get(self._url, params=parameters, headers=headers) as response:
                if response.status in (401, 403):
                    raise LoadError(
                        f"{self._url} answered {response.status}; prometheus.bearerToken and "
                        "prometheus.tenant say who asks"
                    )
                if response.status != 200:
                    raise LoadError(f"{self._url} answered {response.status}")
                return await response.json()
        except aiohttp.ClientConnectionError as error:
            await self.close()  # the next question reads the certificates anew
            raise LoadError(f"{self._url}: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise LoadError(f"{self._url}: {error}") from error
        except TimeoutError as error:
            raise LoadError(f"{self._url} did not answer within {self._timeout.total} s") from error


@dataclass(frozen=True, slots=True)
class _Sample:
    """One series of an instant vector."""

    labels: Mapping[str, str]
    value: float

    @property
    def pod(self) -> ObjectKey:
        return ObjectKey(self.labels["namespace"], self.labels["pod"])

    @property
    def metric(self) -> str:
        return self.labels.get("__name__", "")

    @property
    def model(self) -> str:
        return self.labels.get("model", "")

    @property
    def source(self) -> frozenset[tuple[str, str]]:
        """What the metrics of one model that one job scrapes from one pod have in common."""
        return frozenset(item for item in self.labels.items() if item[0] != "__name__")


def _loads(samples: Iterable[_Sample]) -> dict[ObjectKey, ReplicaLoad]:
    """The load of each pod. Two jobs that scrape one pod see the same requests, so of their series the
    largest counts; the models of a pod have requests of their own, so they add up."""
    largest: dict[tuple[ObjectKey, str, str], float] = {}
    for sample in samples:
        series = (sample.pod, sample.metric, sample.model)
        largest[series] = max(0.0, sample.value, largest.get(series, 0.0))
    sums: dict[ObjectKey, dict[str, float]] = {}
    for (pod, metric, _), value in largest.items():
        of_pod = sums.setdefault(pod, {})
        of_pod[metric] = of_pod.get(metric, 0.0) + value
    return {
        pod: ReplicaLoad(of_pod[WAITING], of_pod.get(RUNNING, 0.0), of_pod.get(KV_CACHE_USAGE, 0.0))
        for pod, of_pod in sums.items()
        if WAITING in of_pod
    }


def _series(answer: Any) -> list[_Sample]:
    """The samples of an instant vector. Series without a pod are left out, and values that are no
    finite number: nothing can be decided by them."""
    try:
        samples = [
            _Sample(series["metric"], float(series["value"][1]))
            for series in answer["data"]["result"]
            if "namespace" in series["metric"] and "pod" in series["metric"]
        ]
        return [sample for sample in samples if math.isfinite(sample.value)]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise LoadError(f"an answer that is not an instant vector: {error!r}") from error
