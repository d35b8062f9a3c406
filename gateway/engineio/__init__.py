"""Engine.IO v4 on Trio: one ordered, bidirectional line to each client, over polling or WebSocket."""
