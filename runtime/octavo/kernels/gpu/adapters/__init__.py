"""Products of adapters for GPUs: down to their ranks, and back up to what a product gives."""
