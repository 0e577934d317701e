"""Sampling kernels in plain torch."""
