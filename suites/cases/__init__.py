"""Cases of the suites in Python; they import nothing of the runtime."""
