"""Custom resources, clusters and control planes for the operator's tests."""
