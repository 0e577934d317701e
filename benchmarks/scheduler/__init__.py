"""Scheduler's own cost per step, without a model: `python -m benchmarks.scheduler`."""
