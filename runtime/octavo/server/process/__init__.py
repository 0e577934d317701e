"""Process around a server: start, probes, metrics, drain and last words."""
