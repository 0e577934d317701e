"""Real Kubernetes cluster on any machine: kind, a registry and Prometheus, started and removed.

`ensure_cluster` is for the demo and the tests, `python -m e2e.cluster` for people.
"""

from e2e.cluster.cluster import Cluster, adopt_context, ensure_cluster, open_cluster, remove_cluster

__all__ = [
    "Cluster",
    "adopt_context",
    "ensure_cluster",
    "open_cluster",
    "remove_cluster",
]
