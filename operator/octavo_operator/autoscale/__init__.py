"""Autoscaling. Replicas follow the queue: read it (`prometheus`), decide (`decide`), keep count
(`controller`)."""
