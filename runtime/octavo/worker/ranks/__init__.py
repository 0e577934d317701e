"""Ranks of one model, a process each (tensor parallelism): how they start, step and end together."""
