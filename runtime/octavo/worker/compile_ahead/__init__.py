"""Compile-ahead. Compiling a GPU's kernels while the weights are read: one room, whose door is
`compiling_ahead`."""

from octavo.worker.compile_ahead.ahead import CompilingAhead, compiling_ahead

__all__ = ["CompilingAhead", "compiling_ahead"]
