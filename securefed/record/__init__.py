"""The files of a run directory: one type for each, written and read with it."""
