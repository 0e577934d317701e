"""Compiling a GPU's kernels while the weights are read: one room, whose door is `compiling_ahead`."""
