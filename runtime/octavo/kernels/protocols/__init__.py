"""Protocols of kernels: what layers and executors ask of every device."""
