"""Octavo's engine on one GPU against the GPU's own limits, and against transformers in the same run."""
