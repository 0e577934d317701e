"""End-to-end tests. What the project promises, proven on a real cluster with real pods (marker `e2e`)."""
