"""Attention of decode rows for CPUs, and what happens to queries, keys and values before it."""
