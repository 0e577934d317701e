"""Products of a few rows, with what surrounds them, in plain torch."""
