"""OpenAI-compatible HTTP server around one engine, and the pod's operations port."""
