"""What goes with a released model: what it is, for whom, and what speaks against it."""
