"""Cost of the API process: HTTP, tokenising, streaming, beside a bare SSE server and vLLM's front end."""
