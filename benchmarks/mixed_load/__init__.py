"""Mixed load: how evenly streams decode while long prompts arrive, beside vLLM's CPU build."""
