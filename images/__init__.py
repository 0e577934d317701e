"""Container images and their builder: `python -m images.build`, with Docker or without."""
