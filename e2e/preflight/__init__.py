"""Preflight. What a machine needs for a cluster, told before anything is fetched or started."""
