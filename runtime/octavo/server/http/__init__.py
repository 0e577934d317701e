"""HTTP itself: listeners, bodies, middleware, server-sent events and who may queue."""
