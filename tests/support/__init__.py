"""What several tests start from: builders, oracles, processes, and the emulated GPU."""
