"""Kernels for CPUs, compiled by numba: what a library's dispatch costs is most of a small model's step.

Importing this needs numba; `kernels.select` falls back to the reference where it is missing. A kernel is
compiled when it is first called, and comes from numba's cache after that.
"""

from octavo.kernels.cpu.gated_activation import gelu_and_mul, silu_and_mul
from octavo.kernels.cpu.rms_norm import add_rms_norm, rms_norm
from octavo.kernels.cpu.stream_sum import sum_stream

__all__ = ["add_rms_norm", "gelu_and_mul", "rms_norm", "silu_and_mul", "sum_stream"]
