"""Device side of the engine: model, KV memory and sampling behind the `Executor` protocol."""
