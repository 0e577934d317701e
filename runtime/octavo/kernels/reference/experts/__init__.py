"""Mixture-of-experts kernels in plain torch."""
