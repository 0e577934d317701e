"""Sampling kernels for GPUs: draws, filters, penalties and log-probabilities."""
