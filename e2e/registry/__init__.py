"""Registry that brings images into the clusters: its container, and local images pushed to it."""
