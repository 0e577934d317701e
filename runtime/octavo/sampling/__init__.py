"""Sampling: the next token of each row of scores, on the host and on the device."""
