"""Engine: which sequences run in a step, where their KV cache lies, and what becomes of the tokens."""
