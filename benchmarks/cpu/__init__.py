"""`octavo serve` on the CPU against transformers `generate`, both alive in the same run."""
