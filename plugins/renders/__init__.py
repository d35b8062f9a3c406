"""The plugin that draws compositions."""
