"""The released model on a hospital's own patients: nothing here trains, and nothing is sent."""
