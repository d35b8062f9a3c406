"""Builds the node's parts from the settings and hangs them up: what is plugged into what."""
