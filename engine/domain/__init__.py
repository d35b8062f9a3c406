"""What episodes, events, presence and records are and which changes are right: pure, no I/O."""
