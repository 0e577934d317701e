"""Block and tile sizes of the GPU kernels, a table per chip."""
