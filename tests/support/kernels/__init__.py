"""Kernels under test: where they run, on what batches, and how near their numbers must be."""
