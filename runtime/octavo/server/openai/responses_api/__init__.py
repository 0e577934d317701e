"""Responses. OpenAI's newer API for answers: items in, items out, and streams of typed events."""
