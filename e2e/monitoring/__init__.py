"""Monitoring: the Prometheus of the clusters, which autoscaling reads."""
