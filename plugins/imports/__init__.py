"""The plugin that imports episodes from files."""
