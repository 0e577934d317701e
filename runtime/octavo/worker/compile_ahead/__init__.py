"""Compile-ahead. Compiling a GPU's kernels while the weights are read: one room, whose door is
`compiling_ahead`."""

from octavo.worker.compile_ahead.ahead import compiling_ahead

__all__ = ["compiling_ahead"]
