"""Checkpoints, executors, oracles and servers for the runtime's tests."""
