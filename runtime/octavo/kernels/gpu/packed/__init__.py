"""Products with packed weights for GPUs: integers of 4 and 8 bits and float8, with scales of groups."""
