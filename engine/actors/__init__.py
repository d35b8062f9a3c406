"""The tasks that own the engine's changing state, one mailbox each."""
