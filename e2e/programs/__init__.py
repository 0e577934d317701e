"""Programs of the cluster: from PATH where they fit, else built from Go modules pinned in `tools/`."""
