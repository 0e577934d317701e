"""Products of a few rows for GPUs, with what comes before and after them in the same launch."""
