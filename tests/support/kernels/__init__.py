"""Where kernels under test run, on what batches, and how near their numbers must be."""
