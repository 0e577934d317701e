"""A real Kubernetes cluster on any machine: kind, a registry and Prometheus, started and removed.

`ensure_cluster` is for the demo and the tests, `python -m e2e.cluster` for people.
"""

from e2e.cluster.cluster import Cluster, adopt_context, ensure_cluster, open_cluster, remove_cluster
from e2e.cluster.errors import ClusterError

__all__ = [
    "Cluster",
    "ClusterError",
    "adopt_context",
    "ensure_cluster",
    "open_cluster",
    "remove_cluster",
]
