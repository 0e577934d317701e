"""Products of float8: rows that are rounded, and weights that checkpoints hold so."""
