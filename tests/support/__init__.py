"""Support of several tests: builders, oracles, processes, and the emulated GPU."""
