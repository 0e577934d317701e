"""What the API process costs: HTTP, tokenising, streaming, beside a bare SSE server and vLLM's front end."""
