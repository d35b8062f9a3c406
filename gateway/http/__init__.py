"""HTTP and WebSocket on the wire: from an accepted socket to an ASGI application, and back to the client."""
