"""Sampling kernels for CPUs: what the host's draw needs compiled."""
