"""Event streams (SSE) for clients that cannot open a WebSocket: the same frames, bounds and recovery."""
