"""OpenAI's API: its routes, requests, answers and errors."""
