"""Kernels. Attention over paged keys and values: a plain-torch form that every device runs."""
