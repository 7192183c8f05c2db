"""One hospital: its patients, its privacy, its answers to the server."""
