"""End to end. The real cluster (cluster), the demonstration on it (demo), and the tests on it (tests)."""
