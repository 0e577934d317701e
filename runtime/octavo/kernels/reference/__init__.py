"""Reference kernels. Every kernel in plain torch: obvious rather than fast, for any device, and the oracle of
the others."""

from octavo.kernels.reference.gated_activation import gelu_and_mul, silu_and_mul
from octavo.kernels.reference.rms_norm import add_rms_norm, rms_norm
from octavo.kernels.reference.stream_sum import sum_stream

__all__ = ["add_rms_norm", "gelu_and_mul", "rms_norm", "silu_and_mul", "sum_stream"]
