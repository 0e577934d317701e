"""Model families: how each reads its config.json, lists its products and runs; `base` is what others know."""
