"""What Socket.IO clients find behind the names of namespaces: the node's own, and those of plugins."""
