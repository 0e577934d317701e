"""Sampling on a GPU, behind the model on the same stream: what is packed for it, and what it runs."""
