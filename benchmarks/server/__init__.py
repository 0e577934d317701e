"""API process: what HTTP, tokenising and streaming cost, beside a bare SSE server and vLLM's front end."""
