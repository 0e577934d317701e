"""Compilation of the GPU kernels: without a GPU, the forms that launches ask for, what came out."""
