"""What a run leaves to look at, and the machine-readable twin of everything shown."""
