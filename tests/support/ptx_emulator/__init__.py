"""Kernels as Triton compiles them for NVIDIA GPUs, run on a CPU (README.md)."""
