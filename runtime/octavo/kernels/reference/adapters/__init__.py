"""Products of adapters in plain torch."""
