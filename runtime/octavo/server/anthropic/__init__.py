"""Messages. Anthropic's API over the same chat: blocks in, blocks out, and streams of typed events."""
