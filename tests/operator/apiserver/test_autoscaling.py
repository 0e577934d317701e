"""Autoscaling of the whole operator, with a Prometheus that says what it is told."""

from __future__ import annotations

import http.server
import json
import threading
import time
from pathlib import Path

from tests.support.operator.admin import create, path, wait_until
from tests.support.operator.cluster import READY, Cluster
from tests.support.operator.control_plane import ControlPlane
from tests.support.operator.operator_process import OperatorProcess


class PrometheusStub:
    """Answers Prometheus' two queries: every pod has so many waiting requests, sampled now."""

    def __init__(self, namespace: str) -> None:
        self.waiting = {"llama-1": 0}
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_time = "timestamp" in self.path
                result = [
                    {
                        "metric": {
                            "__name__": "octavo_requests_waiting",
                            "namespace": namespace,
                            "pod": pod,
                        },
                        "value": [0, str(time.time() if is_time else waiting)],
                    }
                    for pod, waiting in stub.waiting.items()
                ]
                body = json.dumps({"data": {"result": result}}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_queue_moves_the_replicas_and_a_restart_does_not(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    stub = PrometheusStub(cluster.namespace)
    settings = {"prometheus_url": stub.url, "autoscale_interval_seconds": "0.2"}
    process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "a.log", **settings)

    def replicas() -> int:
        return int(cluster.children()["Deployment"]["spec"]["replicas"])

    try:
        bounds = {"maxReplicas": 4, "queueDepth": 4, "scaleDownStabilization": "1h"}
        create(cluster.admin, cluster.namespace, autoscaling=bounds)
        cluster.wait_children()
        cluster.add_pod("llama-1", READY)
        wait_until(lambda: cluster.condition("Autoscaling") == ("True", "Active"))
        stub.waiting["llama-1"] = 11
        wait_until(lambda: replicas() == 3)
        wait_until(lambda: cluster.status()["queue"] == 11)
        process.stop()
        stub.waiting["llama-1"] = 1
        before = cluster.versions()["Deployment"]
        process = OperatorProcess(control_plane, cluster.namespace, tmp_path / "b.log", **settings)
        wait_until(lambda: cluster.status()["queue"] == 1)
        assert cluster.versions()["Deployment"] == before
        stub.waiting["llama-1"] = 0
        soon = {"autoscaling": {"scaleDownStabilization": "2s"}}
        cluster.admin.merge(path(cluster.namespace, "llama"), {"spec": soon})
        wait_until(lambda: replicas() == 1)
        events = f"/apis/events.k8s.io/v1/namespaces/{cluster.namespace}/events"
        notes = [
            each["note"] for each in cluster.admin.items(events) if each["reason"] == "Autoscaled"
        ]
        assert any("1 → 3" in note for note in notes)
    finally:
        process.stop()
        stub.stop()
