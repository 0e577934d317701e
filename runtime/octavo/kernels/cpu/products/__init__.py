"""Matrix products for CPUs: panels of 32 output features, their packing and their memory."""
