"""Attention over the paged cache for GPUs, and what happens to queries, keys and values before it."""
