"""What the API process costs: HTTP, tokenising and streaming, beside a bare SSE server and vLLM's front end."""
