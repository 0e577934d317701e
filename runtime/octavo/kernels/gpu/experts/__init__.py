"""Mixture-of-experts kernels for GPUs: routing, the two grouped products, the weighted sum."""
