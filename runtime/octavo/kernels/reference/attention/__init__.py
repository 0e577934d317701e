"""Attention over the paged cache in plain torch."""
