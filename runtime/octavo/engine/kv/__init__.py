"""KV-cache blocks: who holds them, what their contents are called, which prefixes are found again."""
