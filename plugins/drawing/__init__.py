"""Drawing compositions: layers made ready, drawn, and all of it in a process of its own."""
