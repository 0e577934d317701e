"""Kubernetes client. All I/O with the API server: reads, server-side apply, status, Events, Leases.

`Kube` is the interface that the rest of the operator knows; tests put an in-memory one in its place.
`ApiServer` speaks HTTP through the official client's asyncio transport. It asks for no discovery: the
operator knows its twelve kinds. Requests are bounded in number and in time, and a server that says 429 is
given the time that it asks for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError

from octavo_operator.manifest import FIELD_MANAGER, Kind, Manifest

_MAX_PARALLEL_REQUESTS = 64
_THROTTLE_ATTEMPTS = 5
_STATUS_ATTEMPTS = 5
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_THROTTLED = 429
_HTTP_UNPROCESSABLE = 422
_HTTP_FORBIDDEN = 403


class KubeError(Exception):
    """The API server refused or failed.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: Kubernetes' machine-readable reason, such as `AlreadyExists`; empty when unknown.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    @property
    def is_conflict(self) -> bool:
        """Somebody else was faster."""
        return self.status == _HTTP_CONFLICT

    @property
    def is_gone(self) -> bool:
        """There is no such object, or it has become another one since it was read: so says the API server, or
        a webhook that it asked."""
        return self.status in (_HTTP_NOT_FOUND, _HTTP_CONFLICT)

    @property
    def is_refusal(self) -> bool:
        """The object itself is refused (invalid, forbidden): trying again soon changes nothing."""
        return 400 <= self.status < 500 and self.status not in (
            _HTTP_CONFLICT,
            _HTTP_THROTTLED,
        )

    @property
    def is_forbidden(self) -> bool:
        """The operator has no right to it, or something else does not allow it."""
        return self.status == _HTTP_FORBIDDEN

    @property
    def is_fault(self) -> bool:
        """The API server failed, or who it asks before it answers, such as an admission webhook."""
        return self.status >= 500 or self.reason == "Timeout"

    @property
    def is_namespace_terminating(self) -> bool:
        """The namespace is on its way out: nothing can be created in it, nor need be."""
        return self.is_forbidden and "being terminated" in str(self)


class Kube(Protocol):
    """What the operator needs of a cluster. Every method may raise KubeError."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """The object, or None when it does not exist."""

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """All objects with these labels and fields; of every namespace when `namespace` is None."""

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Server-side apply; the answer is the whole object, status included."""

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        """Server-side apply of `status` to the object with this uid, of which `manifest` has a version that
        was read; None when it is gone or on its way out."""

    async def patch(
        self, kind: Kind, manifest: Manifest, operations: Sequence[Manifest]
    ) -> Manifest:
        """The object after a JSON patch; a conflict when it has changed since it was read."""

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """A new object."""

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """A whole object, guarded by its resourceVersion."""

    async def delete(self, kind: Kind, manifest: Manifest, *, spares_pods: bool = False) -> None:
        """The object, if it still is the one with this uid; what it owns stays where that is said."""


async def load_configuration(kubeconfig: str | None = None) -> Configuration:
    """The cluster that the process runs in, else the kubeconfig. Raises RuntimeError."""
    configuration = Configuration()
    if kubeconfig is not None:
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        return configuration
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        try:
            await load_kube_config(client_configuration=configuration)
        except ConfigException as error:
            raise RuntimeError(
                f"no cluster: neither a pod's service account nor a kubeconfig ({error})"
            ) from error
    return configuration


class ApiServer:
    """`Kube` over HTTP. Close it with `close`."""

    def __init__(self, configuration: Configuration, request_timeout_seconds: float) -> None:
        configuration.connection_pool_maxsize = _MAX_PARALLEL_REQUESTS
        self._api = ApiClient(configuration)
        self._client = DynamicClient(self._api)
        self._timeout_seconds = request_timeout_seconds
        self._slots = asyncio.Semaphore(_MAX_PARALLEL_REQUESTS)

    async def close(self) -> None:
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._request("get", kind.path(namespace, name))
        except KubeError as error:
            if error.status == _HTTP_NOT_FOUND:
                return None
            raise

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        selectors = {"label_selector": labels, "field_selector": fields}
        parameters: dict[str, object] = {
            name: ",".join(f"{key}={wanted[key]}" for key in wanted)
            for name, wanted in selectors.items()
            if wanted
        }
        answer = await self._request("get", kind.path(namespace), **parameters)
        items: list[Manifest] = answer["items"]
        return items

    async def apply(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self._apply(kind, manifest, subresource="")

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        # Of a status the API server does not compare uids, only versions.
        metadata = {**manifest["metadata"]}
        for attempt in range(1, _STATUS_ATTEMPTS + 1):
            try:
                return await self._apply(kind, {**manifest, "metadata": metadata}, "status")
            except KubeError as error:
                if not error.is_gone:
                    raise
                live = await self._still_there(kind, manifest)
                if live is None:
                    return None
                version = live["metadata"]["resourceVersion"]
                if version == metadata["resourceVersion"] or attempt == _STATUS_ATTEMPTS:
                    raise
                metadata["resourceVersion"] = version
        raise AssertionError("unreachable")

    async def patch(
        self, kind: Kind, manifest: Manifest, operations: Sequence[Manifest]
    ) -> Manifest:
        metadata = manifest["metadata"]
        # A test that does not hold fails the whole patch: an index may mean another item by now.
        version = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": metadata["resourceVersion"],
        }
        try:
            return await self._request(
                "patch",
                kind.path(metadata["namespace"], metadata["name"]),
                body=[version, *operations],
                content_type="application/json-patch+json",
                field_manager=FIELD_MANAGER,
            )
        except KubeError as error:
            if error.status not in (_HTTP_NOT_FOUND, _HTTP_UNPROCESSABLE):
                raise
            # The answer to a test that failed is that of an object that is refused.
            live = await self.get(kind, metadata["namespace"], metadata["name"])
            if live is None or live["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
                message = f"{kind.kind} {metadata['name']} has changed since it was read"
                raise KubeError(_HTTP_CONFLICT, "Conflict", message) from error
            raise

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = kind.path(manifest["metadata"]["namespace"])
        return await self._request("post", path, body=manifest, field_manager=FIELD_MANAGER)

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        return await self._request("put", path, body=manifest, field_manager=FIELD_MANAGER)

    async def delete(self, kind: Kind, manifest: Manifest, *, spares_pods: bool = False) -> None:
        metadata = manifest["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Orphan" if spares_pods else "Background",
            "preconditions": {"uid": metadata["uid"]},
        }
        try:
            path = kind.path(metadata["namespace"], metadata["name"])
            await self._request("delete", path, body=body)
        except KubeError as error:
            if not error.is_gone or await self._still_there(kind, manifest):
                raise

    async def _still_there(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        """The live object; None when it is gone, on its way out, or another one by now. An admission webhook
        may answer with any status, also with those by which the API server says so."""
        metadata = manifest["metadata"]
        live = await self.get(kind, metadata["namespace"], metadata["name"])
        if live is None or "deletionTimestamp" in live["metadata"]:
            return None
        return live if live["metadata"]["uid"] == metadata["uid"] else None

    async def _apply(self, kind: Kind, manifest: Manifest, subresource: str) -> Manifest:
        metadata = manifest["metadata"]
        return await self._request(
            "patch",
            kind.path(metadata["namespace"], metadata["name"], subresource),
            body=manifest,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )

    async def _request(self, method: str, path: str, **parameters: object) -> Manifest:
        """One request. A throttled one waits as long as the server asks, a few times."""
        for attempt in range(1, _THROTTLE_ATTEMPTS + 1):
            try:
                async with self._slots:
                    return await self._once(method, path, **parameters)
            except _ThrottledError as error:
                if attempt == _THROTTLE_ATTEMPTS:
                    raise KubeError(_HTTP_THROTTLED, "TooManyRequests", str(error)) from error
                await asyncio.sleep(error.retry_after_seconds)
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, **parameters: object) -> Manifest:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.request(
                    method, path, serialize=False, query_params=[], header_params={}, **parameters
                )
                answer: Manifest = await response.json()
                return answer
        except DynamicApiError as error:
            if error.status == _HTTP_THROTTLED:
                raise _ThrottledError(path, error.headers) from error
            raise _translated(error, method, path) from error
        except TimeoutError as error:
            message = f"{method} {path}: no answer within {self._timeout_seconds} s"
            raise KubeError(0, "Timeout", message) from error
        except (OSError, aiohttp.ClientError) as error:
            raise KubeError(0, "Unreachable", f"{method} {path}: {error}") from error


class _ThrottledError(Exception):
    def __init__(self, path: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(f"{path}: the API server is throttling")
        try:
            self.retry_after_seconds = float((headers or {}).get("Retry-After", "1"))
        except ValueError:
            self.retry_after_seconds = 1.0


def _translated(error: DynamicApiError, method: str, path: str) -> KubeError:
    try:
        status = json.loads(error.body)
        return KubeError(error.status, status.get("reason", ""), status.get("message", ""))
    except (TypeError, ValueError, AttributeError):
        return KubeError(error.status, "", f"{method} {path}: {error.status} {error.reason}")
