"""What each observer saw of a run, from its recorded messages alone."""
