"""Requests on their way through the engine: sequences in, text and reasons out."""
