"""Executor of CPUs: a batch laid out, run and sampled while the host waits."""
