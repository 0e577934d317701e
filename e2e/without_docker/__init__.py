"""Kubernetes where no Docker runs and no image can be pulled: a private engine, and a node image of our own.

The engine is the distribution's dockerd, unpacked into the cache; the node image is a bootstrapped Debian
with programs built from source. A machine with Docker and a way to its registry uses nothing of this.
"""
