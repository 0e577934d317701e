"""Executor of GPUs: steps that are packed, uploaded, launched and read back without waiting."""
