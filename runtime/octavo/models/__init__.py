"""Model families: how each reads its config.json, and the decoder that they share."""
