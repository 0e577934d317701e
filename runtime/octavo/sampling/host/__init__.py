"""Sampling in the host's memory: numpy over the logits that a CPU made."""
