"""Compilation of the CPU kernels: numba's decorators, vectors, and all of torch's threads."""
