"""Socket.IO v5 on Trio, over Engine.IO: namespaces, events, acks, binary, rooms."""
